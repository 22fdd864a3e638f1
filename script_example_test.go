package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/client"
	"usher/registry"
)

// cmdExample copies an example into the script's directory and builds its Go
// programs there, as its README.md says: example NAME.
func cmdExample(ts *testscript.TestScript, neg bool, args []string) {
	from, to := filepath.Join("examples", args[0]), ts.MkAbs(args[0])
	ts.Check(os.CopyFS(to, os.DirFS(from)))
	bin := filepath.Join(to, "bin") + string(filepath.Separator)
	ts.Check(os.RemoveAll(bin)) // of who has tried the example here
	ts.Check(os.MkdirAll(bin, 0o700))
	out, err := exec.Command("go", "build", "-o", bin, "./"+from+"/...").CombinedOutput()
	if err != nil {
		ts.Fatalf("build %s: %v\n%s", from, err, out)
	}
}

// cmdClusterIP puts the ClusterIP of a Service into the environment: clusterip
// VARIABLE NAME NAMESPACE.
func cmdClusterIP(ts *testscript.TestScript, neg bool, args []string) {
	c, err := client.New(ts.Getenv("USHER_SERVER"), "")
	ts.Check(err)
	defer c.Close()
	svc, err := c.Get(context.Background(), registry.Key{Kind: registry.Services, Name: args[1], Namespace: args[2]})
	ts.Check(err)
	ts.Setenv(args[0], svc.(*corev1.Service).Spec.ClusterIP)
}
