package api

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// discoveryVersions are those of the aggregated document. Its content is the
// same in all; kubectl 1.26 to 1.29 know the older one.
var discoveryVersions = []string{"v2", "v2beta1"}

// acceptedDiscovery returns the version of the aggregated document that an
// Accept header asks for first, or "" where it wants the old form.
func acceptedDiscovery(accept []string) string {
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil || media != mediaJSON {
			continue
		}
		if params["as"] == "" {
			return ""
		}
		for _, v := range discoveryVersions {
			if params["as"] == "APIGroupDiscoveryList" && params["g"] == apidiscoveryv2.GroupName && params["v"] == v {
				return v
			}
		}
	}
	return ""
}

// answerDiscovery writes the aggregated document, unless the client has it.
func answerDiscovery(w http.ResponseWriter, r *http.Request, version string, doc apidiscoveryv2.APIGroupDiscoveryList) error {
	doc.TypeMeta = metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: apidiscoveryv2.GroupName + "/" + version}
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	media := fmt.Sprintf("%s;g=%s;v=%s;as=APIGroupDiscoveryList", mediaJSON, apidiscoveryv2.GroupName, version)
	return answerDocument(w, r, media, func() (document, error) { return newDocument(body), nil })
}
