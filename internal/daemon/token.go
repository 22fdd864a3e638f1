package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"usher/internal/api"
	"usher/internal/secret"
)

// TokenFile returns the name of the file in the state directory that has the
// token of a role on the control port.
func TokenFile(role api.Role) string {
	if role == api.RoleAdmin {
		return "token"
	}
	return "token-" + string(role)
}

// loadTokens reads the tokens in dir, and makes those that there are not.
func loadTokens(dir string) (map[api.Role]string, error) {
	tokens := make(map[api.Role]string)
	for _, role := range api.Roles {
		token, err := loadToken(filepath.Join(dir, TokenFile(role)))
		if err != nil {
			return nil, err
		}
		tokens[role] = token
	}
	return tokens, nil
}

// loadToken reads a token, and makes one on first use. One that others could
// have read is no secret any more, and is replaced.
func loadToken(path string) (string, error) {
	data, err := secret.Read(path)
	if token := strings.TrimSpace(string(data)); err == nil && token != "" {
		return token, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, secret.ErrExposed) {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := rand.Text()
	if err := secret.Write(path, []byte(token+"\n")); err != nil {
		return "", fmt.Errorf("write token: %w", err)
	}
	return token, nil
}
