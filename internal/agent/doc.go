// Package agent runs local processes as Pods: it starts them, each with an
// address of its own, keeps their Pods in the registry under one lease for as
// long as they live, and checks whether they are ready.
//
// The registry is reached through the API alone. What the agent writes there
// follows from what its processes do, and is written again whenever the
// registry has lost it: after a restart of the daemon or a sleep of the
// machine the same Pods come back with the same names and addresses.
//
// A process that ended is started again if its Workload says so: in the same Pod,
// after a pause that grows.
//
// It does not keep processes apart: they share the files and the user of the
// agent, and its network unless each has one of its own (Agent.Network).
package agent
