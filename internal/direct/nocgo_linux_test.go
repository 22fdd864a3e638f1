//go:build !cgo

package direct

const hasCgo = false
