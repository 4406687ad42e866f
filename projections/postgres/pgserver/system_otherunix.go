//go:build unix && !linux && !darwin

package pgserver

import "syscall"

// unicodeCharacterType is a locale in which letters are Unicode's.
const unicodeCharacterType = "C.UTF-8"

// endWithParent does nothing: the next Start on the directory shuts down what
// a parent's sudden death has left.
func endWithParent(*syscall.SysProcAttr) {}
