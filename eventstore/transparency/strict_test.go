package transparency_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"sakipaldies.lv/ledger/eventstore/transparency"
)

// signText signs a checkpoint's text as it is.
func signText(t testing.TB, text string, signers ...note.Signer) string {
	t.Helper()
	data, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// padded flips the lowest bit that base64 does not need: the same bytes, spelled
// differently.
func padded(t testing.TB, text string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := strings.LastIndexAny(strings.TrimRight(text, "=\n"), alphabet)
	flipped := text[:i] + string(alphabet[strings.IndexByte(alphabet, text[i])^1]) + text[i+1:]
	if !strings.Contains(text, "=") {
		t.Fatalf("%q has no padding", text)
	}
	return flipped
}

func TestCheckpointHasOneSpelling(t *testing.T) {
	s, verifier := newKey(t)
	keys := mustKeys(t, verifier)
	sibling, _ := newKey(t) // of the log's name, but not its key
	witnessKey, _, err := note.GenerateKey(rand.Reader, "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := note.NewSigner(witnessKey)
	if err != nil {
		t.Fatal(err)
	}
	root := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	text := origin + "\n5\n" + root + "\n"
	good := signText(t, text, s)
	_, line, _ := strings.Cut(good, "\n\n")
	with := func(signers ...note.Signer) string { return signText(t, text, signers...) }
	c, err := transparency.ParseCheckpoint([]byte(good), keys)
	if err != nil || c.Size != 5 || c.Root[0] != 7 || c.Origin != origin {
		t.Fatalf("%v: %v", c, err)
	}
	if c, err := transparency.ParseCheckpoint([]byte(with(s, witness)), keys); err != nil || c.Size != 5 {
		t.Errorf("a witness has signed too: %v", err)
	}
	other, otherVerifier, err := transparency.GenerateKey(origin + "/other")
	if err != nil {
		t.Fatal(err)
	}
	otherSigner, err := transparency.ParseSigner(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transparency.ParseCheckpoint([]byte(good), mustKeys(t, otherVerifier)); !errors.Is(err, transparency.ErrSignature) {
		t.Errorf("of another log: %v", err)
	}

	malformed, signature := transparency.ErrMalformed, transparency.ErrSignature
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"empty":                             {"", malformed},
		"no signature":                      {text, malformed},
		"no signature, with its blank line": {text + "\n", malformed},
		"flipped padding of the signature":  {strings.Replace(good, line, padded(t, line), 1), malformed},
		"flipped padding of a witness":      {padded(t, with(s, witness)), malformed},
		"repeated signature":                {good + line, malformed},
		"repeated witness":                  {with(s, witness) + strings.SplitAfter(with(s, witness), "\n")[5], malformed},
		"unknown key of the log's name":     {with(s, sibling), signature},
		"only an unknown key":               {with(sibling), signature},
		"only a witness":                    {with(witness), signature},
		"signed by another log":             {signText(t, text, otherSigner), signature},
		"extension line":                    {signText(t, text+"more\n", s), malformed},
		"blank extension line":              {signText(t, text+"\n", s), malformed},
		"CRLF":                              {strings.ReplaceAll(good, "\n", "\r\n"), malformed},
		"CRLF that is signed":               {signText(t, strings.ReplaceAll(text, "5\n", "5\r\n"), otherSigner, s), malformed},
		"leading zero":                      {signText(t, origin+"\n05\n"+root+"\n", s), malformed},
		"signed number":                     {signText(t, origin+"\n+5\n"+root+"\n", s), malformed},
		"negative number":                   {signText(t, origin+"\n-5\n"+root+"\n", s), malformed},
		"no number":                         {signText(t, origin+"\n\n"+root+"\n", s), malformed},
		"number beyond 64 bits":             {signText(t, origin+"\n18446744073709551616\n"+root+"\n", s), malformed},
		"root without padding":              {signText(t, origin+"\n5\n"+strings.TrimRight(root, "=")+"\n", s), malformed},
		"root with flipped padding":         {signText(t, origin+"\n5\n"+padded(t, root)+"\n", s), malformed},
		"root of 31 bytes":                  {signText(t, origin+"\n5\n"+base64.StdEncoding.EncodeToString(make([]byte, 31))+"\n", s), malformed},
		"root of 33 bytes":                  {signText(t, origin+"\n5\n"+base64.StdEncoding.EncodeToString(make([]byte, 33))+"\n", s), malformed},
		"two lines":                         {signText(t, origin+"\n5\n", s), malformed},
		"text of another log":               {signText(t, "another.example/log\n5\n"+root+"\n", s), signature},
		"something behind":                  {good + "x", malformed},
		"blank line behind":                 {good + "\n", malformed},
		"twice":                             {good + good, signature},
		"no last newline":                   {strings.TrimSuffix(good, "\n"), malformed},
		"space behind the signature":        {strings.TrimSuffix(good, "\n") + " \n", malformed},
		"altered text":                      {strings.Replace(good, "\n5\n", "\n6\n", 1), signature},
		"too long":                          {good + strings.Repeat(line, 500), malformed},
	} {
		switch _, err := transparency.ParseCheckpoint([]byte(c.data), keys); {
		case err == nil:
			t.Errorf("%s: accepted", name)
		case !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// Sizes that no tree can have, of which the library for proofs would never
	// come back.
	for _, size := range []uint64{1<<56 + 1, 1<<62 + 1, 1 << 63, math.MaxUint64} {
		if c, err := transparency.ParseCheckpoint([]byte(signText(t, fmt.Sprintf("%s\n%d\n%s\n", origin, size, root), s)), keys); !errors.Is(err, transparency.ErrMalformed) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestReceiptHasOneSpelling(t *testing.T) {
	l := newLog(t, 0)
	l.ledger.Append([]byte("Paldies!!"), []byte("Paldies"), []byte("Paldies par visu"))
	if _, err := l.seal(); err != nil {
		t.Fatal(err)
	}
	receipt, err := l.folder().Receipt(l.keys, 2)
	if err != nil {
		t.Fatal(err)
	}
	good := string(receipt.Marshal())
	if err := checkReceipt([]byte(good), l.keys); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(good, "\n") // header, extra, index, two hashes, …
	replace := func(n int, line string) string {
		changed := append([]string(nil), lines...)
		changed[n] = line
		return strings.Join(changed, "")
	}
	malformed, signature, proof := transparency.ErrMalformed, transparency.ErrSignature, transparency.ErrProof
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"empty":                       {"", malformed},
		"another version":             {replace(0, "c2sp.org/tlog-proof@v2\n"), malformed},
		"CRLF":                        {strings.ReplaceAll(good, "\n", "\r\n"), malformed},
		"CRLF in one line":            {replace(2, "index 1\r\n"), malformed},
		"leading zero":                {replace(2, "index 01\n"), malformed},
		"sign":                        {replace(2, "index +1\n"), malformed},
		"no index":                    {replace(2, ""), malformed},
		"no entry":                    {replace(1, ""), malformed},
		"entry twice":                 {replace(1, lines[1]+lines[1]), malformed},
		"flipped padding of entry":    {replace(1, padded(t, lines[1])), malformed},
		"entry without padding":       {replace(1, strings.TrimRight(lines[1], "=\n")+"\n"), malformed},
		"flipped padding of a hash":   {replace(3, padded(t, lines[3])), malformed},
		"short hash":                  {replace(3, "AAAA\n"), malformed},
		"space":                       {replace(2, "index 1 \n"), malformed},
		"extension":                   {replace(2, "index 1\nmore\n"), malformed},
		"no last newline":             {strings.TrimSuffix(good, "\n"), malformed},
		"something behind":            {good + "x", malformed},
		"padding of the signature":    {padded(t, good), malformed},
		"too long":                    {good + strings.Repeat("x", transparency.MaxReceiptBytes), malformed},
		"another index":               {replace(2, "index 0\n"), proof},
		"an index beyond the log":     {replace(2, "index 3\n"), proof},
		"the largest index":           {replace(2, "index 18446744073709551615\n"), proof},
		"an index of 63 bits":         {replace(2, "index 9223372036854775808\n"), proof},
		"another entry":               {replace(1, "extra UGFsZGllcyE=\n"), proof},
		"one hash less":               {replace(3, ""), proof},
		"one hash more":               {replace(3, lines[3]+lines[3]), proof},
		"hashes swapped":              {strings.Replace(good, lines[3]+lines[4], lines[4]+lines[3], 1), proof},
		"altered size":                {strings.Replace(good, "\n3\n", "\n4\n", 1), signature},
		"the checkpoint taken away":   {strings.Join(lines[:6], ""), malformed},
		"a repeated signature":        {good + lines[len(lines)-2], malformed},
		"checkpoint in place of all":  {string(receipt.Checkpoint), malformed},
		"blank line before the proof": {replace(3, "\n"+lines[3]), signature},
	} {
		switch err := checkReceipt([]byte(c.data), l.keys); {
		case err == nil:
			t.Errorf("%s: accepted", name)
		case !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// A checkpoint that was signed, of a size that no tree can have.
	huge := *receipt
	for _, size := range []uint64{1 << 56, 1<<62 + 1, math.MaxUint64} {
		if huge.Checkpoint, err = (transparency.Checkpoint{Origin: origin, Size: size}).Sign(l.signer); err != nil {
			t.Fatal(err)
		}
		for _, sequence := range []uint64{1, 1 << 56, 1 << 62, 1 << 63, math.MaxUint64} {
			huge.Sequence = sequence
			if _, err := huge.Verify(l.keys); !errors.Is(err, transparency.ErrProof) && !errors.Is(err, transparency.ErrMalformed) {
				t.Errorf("entry %d of a tree that cannot be: %v", sequence, err)
			}
		}
	}
}

func TestKeysAreReadStrictly(t *testing.T) {
	signing, verifier, err := transparency.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	if keys := mustKeys(t, "\n"+verifier+"\r\n"+verifier+"\n\n"); keys.Origin() != origin {
		t.Errorf("the keys are of %q", keys.Origin())
	}
	_, foreign, err := transparency.GenerateKey("another.example/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "\n", "key", verifier + "x", verifier[:len(verifier)-4], signing, verifier + "\n" + foreign, strings.Repeat(verifier+"\n", 1000)} {
		if _, err := transparency.ParseKeys(text); !errors.Is(err, transparency.ErrKey) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	for _, text := range []string{"", verifier, signing[:len(signing)-3], "PRIVATE+KEY+x"} {
		if _, err := transparency.ParseSigner(text); !errors.Is(err, transparency.ErrKey) || strings.Contains(err.Error(), signing[:20]) && strings.Contains(err.Error(), origin) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for _, name := range []string{"", "two words", "plus+sign"} {
		if _, _, err := transparency.GenerateKey(name); !errors.Is(err, transparency.ErrKey) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestPathsHaveOneSpelling(t *testing.T) {
	for _, path := range []string{
		"tile/0/000", "tile/0/000.p/1", "tile/0/000.p/255", "tile/7/999", "tile/0/x001/000", "tile/0/x001/x234/067", "tile/0/x001/x234/067.p/7",
		"tile/entries/000", "tile/entries/x001/x000/000.p/200",
	} {
		if spelled, ok := transparency.Canonical(path); !ok || spelled != path {
			t.Errorf("%s is read as %q", path, spelled)
		}
	}
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/1000", "tile/0/x000/000", "tile/0/001/000", "tile/0/x001/x000",
		"tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/1/", "tile/0/000.p/1.p/1", "tile/0/000.p/+1",
		"tile/00/000", "tile/8/000", "tile/-1/000", "tile/entries/", "tile/Entries/000", "Tile/0/000", "/tile/0/000", "tile//0/000", "tile/0/../0/000",
		"tile/0/xx001/000", "tile/0/X001/000", "tile/0/0x0", "tile/0/000 ", "tile/0/٠٠٠", "checkpoint",
		"tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999",
	} {
		if _, ok := transparency.Canonical(path); ok {
			t.Errorf("%q is accepted", path)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`tile/([0-9]{1,2}|entries)/(x[0-9]{3}/){0,3}[0-9]{1,3}(\.p/[0-9]{1,3})?`).Draw(t, "path")
		if spelled, ok := transparency.Canonical(path); ok && spelled != path {
			t.Fatalf("%q and %q name one file", path, spelled)
		}
	})
}
