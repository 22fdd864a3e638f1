// Package openapi describes the objects of the registry as OpenAPI schemas and
// documents. kubectl reads them to validate, to explain and to merge; the API
// merges applied manifests by them.
//
// The schemas are made from the Go types, by reflection, and from markers.txt,
// which has what only the comments of the types say: how the elements of a
// list are told apart, what is optional, what the values of an enumeration are.
package openapi
