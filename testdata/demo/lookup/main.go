// Lookup prints the addresses of a host or, given the name and the protocol of
// a port before it, the SRV records of that port. It asks the nameserver of the
// system's configuration, or another one:
//
//	lookup [-server ADDRESS:PORT] [PORT PROTOCOL] NAME
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	server := flag.String("server", "", "`address` and port of the nameserver")
	flag.Parse()
	if err := run(*server, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(server string, args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resolver := &net.Resolver{PreferGo: true}
	if server != "" {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}
	}
	switch len(args) {
	case 1:
		addrs, err := resolver.LookupHost(ctx, args[0])
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			fmt.Printf("%s A %s\n", args[0], addr)
		}
		return nil
	case 3:
		name, records, err := resolver.LookupSRV(ctx, args[0], args[1], args[2])
		if err != nil {
			return err
		}
		for _, r := range records {
			fmt.Printf("%s SRV %d %d %d %s\n", name, r.Priority, r.Weight, r.Port, r.Target)
		}
		return nil
	}
	return fmt.Errorf("usage: lookup [-server ADDRESS:PORT] [PORT PROTOCOL] NAME")
}
