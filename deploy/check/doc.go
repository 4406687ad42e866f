// Package check holds the files of a deployment against the programs that read
// them: docker-compose.yml against the loader of `docker compose config`, and the
// configuration and alerts of Prometheus against its own parsers.
//
// It is a module of its own, so that the ledger does not have their dependencies.
// Prometheus' whole configuration could be loaded too, but that takes the
// libraries of every cloud along: 814 MB and minutes instead of 160 MB. So the parts
// that are used here are decoded, each by Prometheus' own type, and an Alertmanager
// by name or in DNS: whoever needs more of it says so here. `make test` runs it.
package check
