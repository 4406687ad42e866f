package api

import (
	"github.com/danielgtaylor/huma/v2"

	"sakipaldies.lv/ledger/domain"
)

// What tests need of the inside.
const (
	MaxBodyBytes     = maxBodyBytes
	MaxLanguageBytes = maxLanguageBytes
	TypePrefix       = typePrefix
)

// Kind is what all problems of a code have in common.
type Kind struct {
	Status           int
	English, Latvian string
}

// Kinds are all problems that there are.
func Kinds() map[domain.Code]Kind {
	all := make(map[domain.Code]Kind)
	for code, k := range kinds {
		all[code] = Kind{k.status, k.en, k.lv}
	}
	return all
}

// Spec is what /openapi.json says.
func Spec() *huma.OpenAPI {
	s := &Server{parts: Intake | Reading}
	return spec(s.parts, s.operations())
}

// Occupy takes every place of a request under way, and returns what gives
// them back.
func (s *Server) Occupy() (release func()) {
	for range maxInFlight {
		s.inFlight <- struct{}{}
	}
	return func() {
		for range maxInFlight {
			<-s.inFlight
		}
	}
}

// DecodeVote reads the body of a vote.
func DecodeVote(body []byte) (v VoteRequest, err error) {
	err = (&call{body: body}).decode(&v)
	return v, err
}
