package queue

// ReadAll is for tests that interfere with it.
var ReadAll = readAll

// MaxWaiting is how many submissions may wait for one fault.
const MaxWaiting = maxWaiting

// ErrNotBegun is what a worker says that does not take from the queue yet.
var ErrNotBegun = errNotBegun
