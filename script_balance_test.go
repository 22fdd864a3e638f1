package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdFrom connects as a client with an address of its own, which says nothing,
// and prints what it is told: from CLIENT ADDRESS. The lines of several servers
// make a line.
func cmdFrom(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: from CLIENT ADDRESS...")
	}
	var told []string
	for _, address := range args[1:] {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(args[0])}, Timeout: patience}
		c, err := d.Dial("tcp", address)
		ts.Check(err)
		c.SetDeadline(time.Now().Add(patience))
		ts.Check(c.(*net.TCPConn).CloseWrite())
		text, err := io.ReadAll(c)
		c.Close()
		ts.Check(err)
		told = append(told, strings.Fields(string(text))...)
	}
	fmt.Fprintln(ts.Stdout(), strings.Join(told, " "))
}
