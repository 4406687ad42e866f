// Package comparison measures the ledger beside what people would use instead,
// in one run on one disk: a Postgres table with a unique key, watermill-nats'
// publisher on JetStream, and Watermill's router on that and on package pubsub. It
// is a module of its own, so that the ledger does not have the dependencies of
// others.
//
//	go -C eventstore/comparison test -run '^$' -bench . -benchtime 50000x
package comparison
