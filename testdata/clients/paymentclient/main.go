// Paymentclient asks the payment service and prints its answer, once or N
// times. It knows the service by name and nothing of usher:
//
//	paymentclient [N [URL]]
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	times, url := 1, "http://payment-service.finance/process"
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "usage: paymentclient [N [URL]]")
			os.Exit(2)
		}
		times = n
	}
	if len(os.Args) > 2 {
		url = os.Args[2]
	}
	for range times {
		body, err := ask(url)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(body)
	}
}

// ask makes one request on a connection of its own: a connection that is kept
// stays with the backend that it has.
func ask(url string) (string, error) {
	http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return strings.TrimSpace(string(body)), nil
}
