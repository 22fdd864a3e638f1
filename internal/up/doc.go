// Package up is the loop of local development: it reads what a project is, a
// Procfile or usher.yaml, keeps its processes as that says, and follows its files
// (usher up).
//
// It knows neither the daemon nor the terminal: how a process is run, and how
// manifests are applied, its caller says.
package up
