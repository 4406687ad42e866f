package domain_test

import (
	"errors"
	"fmt"
	"go/ast"
	"strconv"
	"strings"
	"testing"

	"sakipaldies.lv/ledger/domain"
)

// codes are all codes in the source.
func codes(tb testing.TB) []domain.Code {
	tb.Helper()
	var list []domain.Code
	for _, f := range sources(tb) {
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Code" {
					code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
					if err != nil {
						tb.Fatal(err)
					}
					list = append(list, domain.Code(code))
				}
			}
			return true
		})
	}
	if len(list) == 0 {
		tb.Fatal("no codes in the source")
	}
	return list
}

func TestRefusalTexts(t *testing.T) {
	seen := make(map[string]domain.Code)
	for _, code := range codes(t) {
		r := &domain.Refusal{Code: code}
		for _, text := range []string{r.English(), r.Latvian()} {
			if !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q is not a sentence", code, text)
			}
			if other, ok := seen[text]; ok {
				t.Errorf("%s and %s have the same text %q", code, other, text)
			}
			seen[text] = code
		}
	}
}

func TestRefusalIsAnError(t *testing.T) {
	err := fmt.Errorf("line 7: %w", &domain.Refusal{Code: domain.AlreadyVoted, Sequence: 12})
	var refusal *domain.Refusal
	if !errors.As(err, &refusal) || refusal.Sequence != 12 {
		t.Errorf("%v is no refusal", err)
	}
	wantErr(t, err, "line 7: already_voted: This voter has voted for this specialist already. (event 12)")
	if msg := (&domain.Refusal{Code: domain.TooLate}).Error(); strings.Contains(msg, "event") {
		t.Errorf("%q names an event", msg)
	}
}
