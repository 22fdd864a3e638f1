// Command clientgo asks the API as programs with Kubernetes' client library do,
// for the tests:
//
//	clientgo inform          says what a shared informer's handlers are told
//	clientgo lead NAME       stands for election as leader, again and again, and keeps the Lease
//
// It is configured by $KUBECONFIG, and ends on an interrupt.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	switch {
	case len(args) == 1 && args[0] == "inform":
		return inform(ctx, client)
	case len(args) == 2 && args[0] == "lead":
		return lead(ctx, client, args[1])
	}
	return errors.New("usage: clientgo inform | clientgo lead NAME")
}
