package cli

import "testing"

func TestAPIResources(t *testing.T) {
	f := newFake(t, "")
	const head = "NAME             SHORTNAMES   APIVERSION            NAMESPACED   KIND\n"
	runSteps(t, f, []step{
		{"api-resources --api-group=discovery.k8s.io", result{0, head + "endpointslices                discovery.k8s.io/v1   true         EndpointSlice\n", ""}},
		{"api-resources --namespaced=false --api-group= --no-headers", result{0, "namespaces   ns    v1    false   Namespace\nnodes        no    v1    false   Node\n", ""}},
		{"api-resources --categories=all -o name", result{0, "pods\nservices\n", ""}},
		{"api-resources --categories=all -o wide --no-headers", result{0,
			"pods       po    v1    true   Pod       create,delete,deletecollection,get,list,patch,update,watch   all\n" +
				"services   svc   v1    true   Service   create,delete,deletecollection,get,list,patch,update,watch   all\n", ""}},
		{"api-resources --verbs=list,frob", result{0, "NAME   SHORTNAMES   APIVERSION   NAMESPACED   KIND\n", ""}},
		{"api-resources -o name --sort-by=kind --namespaced", result{0,
			"endpointslices.discovery.k8s.io\nendpoints\nevents\npods\nservices\n", ""}},
		{"api-resources -o name --sort-by=name --namespaced=false --verbs=list", result{0,
			"ipaddresses.networking.k8s.io\nnamespaces\nnodeports.usher.internal\nnodes\nservicecidrs.networking.k8s.io\n", ""}},
		{"api-versions", result{0, "authentication.k8s.io/v1\nauthorization.k8s.io/v1\ndiscovery.k8s.io/v1\nnetworking.k8s.io/v1\nusher.internal/v1\nv1\n", ""}},
	})
}
