package queue

// ReadAll is for tests that interfere with it.
var ReadAll = readAll
