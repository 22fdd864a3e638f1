//go:build cgo

package direct

// hasCgo says whether net can resolve names by glibc.
const hasCgo = true
