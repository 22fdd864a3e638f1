//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: network namespaces, epoll and /proc are Linux'")
	os.Exit(1)
}
