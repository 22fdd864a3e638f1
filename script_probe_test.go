package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

// testHTTP is a program that scripts run as Pods: it says the name of its Pod
// to everybody, and at /healthz that it is well while there is a file of that
// name that says so.
func testHTTP() {
	name := os.Getenv("POD_NAME")
	http.HandleFunc("/name", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name) })
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(name + ".well"); err != nil {
			http.Error(w, "not well", http.StatusServiceUnavailable)
		}
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), nil))
	os.Exit(1)
}
