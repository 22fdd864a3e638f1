package api

import (
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// A review is a question that a caller puts about itself by creating an object,
// which comes back with the answer in its status. Nothing is stored.
type review struct {
	schema.GroupVersionKind

	resource string
	new      func() runtime.Object
}

// reviews are those that there are.
var reviews = []review{
	{authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), "selfsubjectreviews",
		func() runtime.Object { return new(authenticationv1.SelfSubjectReview) }},
	{authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), "selfsubjectaccessreviews",
		func() runtime.Object { return new(authorizationv1.SelfSubjectAccessReview) }},
	{authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"), "selfsubjectrulesreviews",
		func() runtime.Object { return new(authorizationv1.SelfSubjectRulesReview) }},
}

// reviewOf returns the review of that resource, or nil.
func reviewOf(group, resource string) *review {
	for i, v := range reviews {
		if v.Group == group && v.resource == resource {
			return &reviews[i]
		}
	}
	return nil
}

// cutReview returns the review that a path is about, or nil.
func cutReview(segments []string) *review {
	if len(segments) != 4 || segments[0] != "apis" {
		return nil
	}
	v := reviewOf(segments[1], segments[3])
	if v == nil || v.Version != segments[2] {
		return nil
	}
	return v
}

// routeReview finds what answers a review.
func (s *Server) routeReview(r *http.Request, v *review) (call, error) {
	if r.Method != http.MethodPost {
		return call{}, errNoMethod()
	}
	return call{verb: "create", resource: v.resource, serve: func(w http.ResponseWriter, r *http.Request) error {
		body, err := readBody(w, r, v.Kind)
		if err != nil {
			return err
		}
		out := v.new()
		// Fields that a newer client has are passed over, as Kubernetes does where
		// nobody asks for a validation.
		if err := yaml.Unmarshal(body, out); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("decode %s: %v", v.Kind, err))
		}
		out.GetObjectKind().SetGroupVersionKind(v.GroupVersionKind)
		if err := answerReview(callerOf(r.Context()), out); err != nil {
			return err
		}
		return answer(w, encoding{}, http.StatusCreated, out)
	}}, nil
}

// answerReview fills in the status of a review by c.
func answerReview(c caller, obj runtime.Object) error {
	switch v := obj.(type) {
	case *authenticationv1.SelfSubjectReview: // kubectl auth whoami
		v.Status.UserInfo = authenticationv1.UserInfo{Username: c.name, Groups: c.groups}
	case *authorizationv1.SelfSubjectAccessReview: // kubectl auth can-i
		return reviewAccess(c, v)
	case *authorizationv1.SelfSubjectRulesReview: // kubectl auth can-i --list
		return reviewRules(c, v)
	}
	return nil
}

// reviewAccess says whether the caller may do something.
func reviewAccess(c caller, v *authorizationv1.SelfSubjectAccessReview) error {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	switch {
	case v.Spec.ResourceAttributes != nil && v.Spec.NonResourceAttributes != nil:
		errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), v.Spec.NonResourceAttributes,
			"cannot be specified in combination with resourceAttributes"))
	case v.Spec.ResourceAttributes == nil && v.Spec.NonResourceAttributes == nil:
		errs = append(errs, field.Invalid(spec.Child("resourceAttributes"), v.Spec.NonResourceAttributes,
			"exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: "SelfSubjectAccessReview"}, "", errs)
	}
	v.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: c.role.allows(attributesIn(v.Spec))}
	if !v.Status.Allowed {
		v.Status.Reason = fmt.Sprintf("the role %q may only get, list and watch", c.role)
	}
	return nil
}

// reviewRules says what the caller may do.
func reviewRules(c caller, v *authorizationv1.SelfSubjectRulesReview) error {
	if v.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	all := []string{"*"}
	verbs, paths := all, all
	if c.role != RoleAdmin {
		verbs, paths = []string{"get", "list", "watch"}, []string{"get"}
	}
	v.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{{Verbs: verbs, APIGroups: all, Resources: all}},
		NonResourceRules: []authorizationv1.NonResourceRule{{Verbs: paths, NonResourceURLs: all}},
	}
	for _, known := range reviews {
		v.Status.ResourceRules = append(v.Status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: []string{"create"}, APIGroups: []string{known.Group}, Resources: []string{known.resource},
		})
	}
	return nil
}
