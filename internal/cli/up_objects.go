package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/up"
	"usher/registry"
)

// upManager is the field manager of what usher up applies: what `usher apply`
// sets beside it, it does not take away.
const upManager = "usher-up"

// upObjects are the objects of a project.
type upObjects struct {
	applied []registry.Key // and not deleted again
	created []registry.Key // that were not there before
}

// apply makes the registry have the objects of p: it checks all, applies each,
// and deletes those that the files had before and have no more.
func (u *upCommand) apply(ctx context.Context, p *up.Project) error {
	paths, err := p.ManifestFiles()
	if err != nil {
		return err
	}
	var manifests []manifest
	if len(paths) > 0 {
		if manifests, err = u.inNamespace(p.Namespace).readManifests(files{paths: paths}, "applying"); err != nil {
			return err
		}
	}
	var errs []error
	var keys []registry.Key
	for _, m := range manifests {
		key := registry.KeyOf(m.object)
		keys = append(keys, key)
		_, done, err := applyAs(ctx, u.client, m, upManager)
		if err != nil {
			errs = append(errs, manifestError{"applying", m.source, err})
			continue
		}
		if !slices.Contains(u.objects.applied, key) {
			u.objects.applied = append(u.objects.applied, key)
		}
		if done == "created" {
			u.objects.created = append(u.objects.created, key)
		}
		if done != "unchanged" {
			u.say("%s %s", objectName(key), done)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // what is to be deleted is known once all is applied
	}
	u.objects.applied = slices.DeleteFunc(u.objects.applied, func(key registry.Key) bool {
		if slices.Contains(keys, key) {
			return false
		}
		err := u.deleteObject(ctx, key)
		errs = append(errs, err)
		return err == nil
	})
	return errors.Join(errs...)
}

// removeCreated deletes what this run has created.
func (o *upObjects) removeCreated(ctx context.Context, u *upCommand) {
	for _, key := range slices.Backward(o.created) {
		if err := u.deleteObject(ctx, key); err != nil {
			fmt.Fprintln(u.env.Stderr, message(err))
		}
	}
}

// deleteObject deletes an object. It is not an error if it is gone.
func (u *upCommand) deleteObject(ctx context.Context, key registry.Key) error {
	err := u.client.Delete(ctx, key, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	u.objects.created = slices.DeleteFunc(slices.Clone(u.objects.created), func(k registry.Key) bool { return k == key })
	if err == nil {
		u.say("%s deleted", objectName(key))
	}
	return nil
}
