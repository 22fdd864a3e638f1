package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// inform prints a line for each thing that the handlers of a shared informer
// over Services and EndpointSlices are told, and at the end which objects they
// know of: kind, name, and label "turn". It checks what a handler relies on:
// each object is added once, and known when it changes or goes.
func inform(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(metav1.NamespaceDefault))
	w := &witness{known: make(map[string]metav1.Object)}
	var told []cache.InformerSynced
	for kind, informer := range map[string]cache.SharedIndexInformer{
		"service":       factory.Core().V1().Services().Informer(),
		"endpointslice": factory.Discovery().V1().EndpointSlices().Informer(),
	} {
		registration, err := informer.AddEventHandler(w.handler(kind))
		if err != nil {
			return err
		}
		told = append(told, registration.HasSynced) // of the handlers: the stores come before them
	}
	factory.Start(ctx.Done())
	cache.WaitForCacheSync(ctx.Done(), told...)
	fmt.Println("synced")
	<-ctx.Done()
	factory.Shutdown()
	for _, key := range slices.Sorted(maps.Keys(w.known)) {
		fmt.Println("known", key, w.known[key].GetLabels()["turn"])
	}
	return nil
}

// A witness remembers what handlers were told of.
type witness struct {
	mu    sync.Mutex               // guards the following
	known map[string]metav1.Object // by kind and name
}

// handler returns the handler for objects of one kind.
func (w *witness) handler(kind string) cache.ResourceEventHandler {
	key := func(obj any) string { return kind + "/" + obj.(metav1.Object).GetName() }
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { w.told("added", key(obj), obj.(metav1.Object)) },
		UpdateFunc: func(old, obj any) {
			// After a list a handler is told of all that is there, changed or not.
			if old.(metav1.Object).GetResourceVersion() != obj.(metav1.Object).GetResourceVersion() {
				w.told("updated", key(obj), obj.(metav1.Object))
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok { // while nobody looked
				obj = last.Obj
			}
			w.told("deleted", key(obj), obj.(metav1.Object))
		},
	}
}

func (w *witness) told(what, key string, obj metav1.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch old := w.known[key]; {
	case what == "added" && old != nil:
		what = "DOUBLED"
	case what != "added" && old == nil:
		what = "MISSED before " + what
	case what == "updated" && old.GetUID() != obj.GetUID(): // went and came again while nobody looked
		what = "replaced"
	}
	fmt.Println(what, key, obj.GetLabels()["turn"])
	if what == "deleted" {
		delete(w.known, key)
	} else {
		w.known[key] = obj
	}
}
