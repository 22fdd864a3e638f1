// Package etcd is the only package that knows etcd. It has the Client that
// writes the registry in transactions, the Mirror that keeps a Store equal to
// it, and the embedded server, which runs in a child process: etcd ends its
// process on a full disk, and that must not cost a connection.
//
// It decides nothing about objects: what may be written, and what an address
// is claimed for, is the API's.
package etcd
