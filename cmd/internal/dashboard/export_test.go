package dashboard

// MaxKept is for tests that need more.
const MaxKept = maxKept
