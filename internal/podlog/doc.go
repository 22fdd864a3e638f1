// Package podlog keeps what the processes of Pods write, and reads it as
// `kubectl logs` wants it. `usher run` writes a file for each Pod into a
// directory of the daemon, which reads it: they share no memory, and either
// may end before the other.
//
// A line of a file is a line of a process, behind when it came and where from,
// as container runtimes write it for the kubelet (CRI log format):
//
//	2026-01-02T15:04:05.999999999Z stdout F what the process wrote
//
// The last record has the tag E: whoever follows the file is at its end.
package podlog
