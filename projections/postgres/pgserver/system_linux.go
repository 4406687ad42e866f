package pgserver

import "syscall"

// unicodeCharacterType is a locale in which letters are Unicode's.
const unicodeCharacterType = "C.UTF-8"

// endWithParent makes the kernel shut the child down when the parent dies,
// whatever it dies of.
func endWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGINT }
