package api

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/text/language"

	"sakipaldies.lv/ledger/cmd/internal/credential"
	"sakipaldies.lv/ledger/cmd/internal/dashboard"
	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/projections"
)

// Problem is the body of every answer that is not a success (RFC 9457).
type Problem struct {
	Type     string      `json:"type" doc:"Stable name of the kind of problem, a tag URI (RFC 4151) that ends with the code." example:"tag:sakipaldies.lv,2026:already_voted"`
	Title    string      `json:"title" doc:"One sentence for people, in the language asked for: en or lv."`
	Status   int         `json:"status" doc:"The HTTP status."`
	Detail   string      `json:"detail,omitempty" doc:"What is wrong with this request, in English, for who writes the channel."`
	Code     domain.Code `json:"code" doc:"Stable name of the kind of problem." example:"already_voted"`
	Sequence uint64      `json:"sequence,omitzero" doc:"Receipt number of the event that stands in the way, if there is one."`
}

// typePrefix begins the type of every problem. It is a tag URI because a code
// means the same on every installation, and none of them is the one to ask.
const typePrefix = "tag:sakipaldies.lv,2026:"

// Codes of problems that are no refusals of the rules.
const (
	Malformed            domain.Code = "malformed"
	Unauthorized         domain.Code = "unauthorized"
	CampaignNotAllowed   domain.Code = "campaign_not_allowed"
	RoleNotAllowed       domain.Code = "role_not_allowed"
	Embargoed            domain.Code = "embargoed"
	AsOfNotReached       domain.Code = "as_of_not_reached"
	AsOfTooFar           domain.Code = "as_of_too_far"
	Counting             domain.Code = "counting"
	ResultsUnavailable   domain.Code = "results_unavailable"
	CastAtNotAccepted    domain.Code = "cast_at_not_accepted"
	UnknownCampaign      domain.Code = "unknown_campaign"
	NotFound             domain.Code = "not_found"
	MethodNotAllowed     domain.Code = "method_not_allowed"
	RequestTimeout       domain.Code = "request_timeout"
	BodyTooLarge         domain.Code = "body_too_large"
	UnsupportedMediaType domain.Code = "unsupported_media_type"
	TooManyRequests      domain.Code = "too_many_requests"
	Busy                 domain.Code = "busy"
	Unavailable          domain.Code = "unavailable"
	OutcomeUnknown       domain.Code = "outcome_unknown"
	CampaignNotServed    domain.Code = "campaign_not_served"
	Internal             domain.Code = "internal"
)

// clientGone is the code, in metrics and in the log, of what nobody waited for.
const clientGone domain.Code = "client_gone"

// kind is what is the same for all problems of a code. Refusals have their
// sentences in domain.
type kind struct {
	code   domain.Code
	status int
	en, lv string
}

// kinds are all problems that there are.
var kinds = func() map[domain.Code]kind {
	m := make(map[domain.Code]kind)
	for _, k := range []kind{
		{domain.AlreadyVoted, http.StatusConflict, "", ""},
		{domain.VoteLimitReached, http.StatusConflict, "", ""},
		{domain.UnknownSpecialist, http.StatusUnprocessableEntity, "", ""},
		{domain.WithdrawnSpecialist, http.StatusConflict, "", ""},
		{domain.ClosedCampaign, http.StatusConflict, "", ""},
		{domain.TooEarly, http.StatusConflict, "", ""},
		{domain.TooLate, http.StatusConflict, "", ""},
		{domain.CastInFuture, http.StatusUnprocessableEntity, "", ""},
		{domain.UnknownVote, http.StatusNotFound, "", ""},
		{domain.AlreadyRetracted, http.StatusConflict, "", ""},
		{domain.ChannelNotAccepted, http.StatusForbidden, "", ""},
		{domain.IdempotencyMismatch, http.StatusUnprocessableEntity, "", ""},
		{Malformed, http.StatusBadRequest, "The request cannot be understood.", "Pieprasījums nav saprotams."},
		{Unauthorized, http.StatusUnauthorized, "The credential is missing, wrong, expired or revoked.", "Piekļuves pilnvaras nav, tā ir nepareiza, beigusies vai atsaukta."},
		{CampaignNotAllowed, http.StatusForbidden, "This credential is not for this campaign.", "Šī piekļuves pilnvara nav šai kampaņai."},
		{RoleNotAllowed, http.StatusForbidden, "This credential is for something else.", "Šī piekļuves pilnvara ir kam citam."},
		{Embargoed, http.StatusForbidden, "These results are not public.", "Šie rezultāti nav publiski."},
		{AsOfNotReached, http.StatusNotFound, "There is no such event in the results yet.", "Rezultātos šāda notikuma vēl nav."},
		{AsOfTooFar, http.StatusUnprocessableEntity, "As of this event too much would have to be counted here.", "Līdz šim notikumam šeit būtu jāskaita pārāk daudz."},
		{Counting, http.StatusServiceUnavailable, "The results as of this event are being counted; ask again.", "Rezultāti līdz šim notikumam tiek skaitīti; jautājiet vēlreiz."},
		{ResultsUnavailable, http.StatusServiceUnavailable, "The results cannot be read at the moment; try again later.", "Rezultāti šobrīd nav nolasāmi; mēģiniet vēlāk."},
		{CastAtNotAccepted, http.StatusForbidden, "This channel may not state when a vote was cast.", "Šis kanāls nedrīkst norādīt balsojuma laiku."},
		{UnknownCampaign, http.StatusNotFound, "There is no such campaign.", "Tādas kampaņas nav."},
		{NotFound, http.StatusNotFound, "There is nothing at this address.", "Šajā adresē nekā nav."},
		{MethodNotAllowed, http.StatusMethodNotAllowed, "This address does not have this method.", "Šai adresei šādas metodes nav."},
		{RequestTimeout, http.StatusRequestTimeout, "The request took too long to arrive.", "Pieprasījums pienāca pārāk lēni."},
		{BodyTooLarge, http.StatusRequestEntityTooLarge, "The request is too large.", "Pieprasījums ir pārāk liels."},
		{UnsupportedMediaType, http.StatusUnsupportedMediaType, "The body must be application/json in UTF-8.", "Pieprasījuma saturam jābūt application/json, UTF-8 kodējumā."},
		{TooManyRequests, http.StatusTooManyRequests, "Too many requests; try again later.", "Pārāk daudz pieprasījumu; mēģiniet vēlāk."},
		{Busy, http.StatusServiceUnavailable, "There is too much to do at the moment; this request recorded nothing, try again with the same Idempotency-Key.", "Šobrīd ir pārāk daudz darba; šis pieprasījums neko neierakstīja, mēģiniet vēlreiz ar to pašu Idempotency-Key."},
		{Unavailable, http.StatusServiceUnavailable, "The ledger cannot be reached; this request recorded nothing, try again with the same Idempotency-Key.", "Reģistrs nav sasniedzams; šis pieprasījums neko neierakstīja, mēģiniet vēlreiz ar to pašu Idempotency-Key."},
		{OutcomeUnknown, http.StatusServiceUnavailable, "It is not known whether this was recorded; try again with the same Idempotency-Key.", "Nav zināms, vai tas tika ierakstīts; mēģiniet vēlreiz ar to pašu Idempotency-Key."},
		{CampaignNotServed, http.StatusServiceUnavailable, "This service does not have the campaign's key.", "Šim pakalpojumam nav kampaņas atslēgas."},
		{Internal, http.StatusInternalServerError, "Something is wrong with this service.", "Ar šo pakalpojumu kaut kas nav kārtībā."},
	} {
		if k.en == "" {
			refusal := domain.Refusal{Code: k.code}
			k.en, k.lv = refusal.English(), refusal.Latvian()
		}
		m[k.code] = k
	}
	return m
}()

// retryAfter is how long a client should wait that finds the ledger busy or
// away, in time.
const retryAfter = time.Second

// answer is what goes out, and what is noted of it.
type answer struct {
	status   int
	code     domain.Code // empty for a success
	cause    error       // what a person who runs this should know; never of a client's making
	location string
	version  string
	retry    time.Duration
	body     any
}

func answerOf(re reply) answer {
	return answer{status: re.status, location: re.location, version: re.version, body: re.body}
}

// problemOf puts an error into an answer.
func problemOf(c *call, err error) answer {
	code, p, a := codeOf(err), Problem{}, answer{}
	var refusal *domain.Refusal
	var malformed *malformedError
	var invalid *intake.InvalidError
	var tooMany *tooManyError
	switch {
	case errors.As(err, &refusal):
		p.Sequence = refusal.Sequence
	case errors.As(err, &malformed):
		p.Detail = malformed.detail
	case errors.As(err, &invalid):
		p.Detail = invalid.Error()
	case errors.As(err, &tooMany):
		a.retry = tooMany.after
	case errors.Is(err, errEncoded):
		p.Detail = "Content-Encoding is not understood: send the body as it is"
	}
	k := kinds[code]
	p.Type, p.Status, p.Code, p.Title = typePrefix+string(code), k.status, code, k.en
	if latvian(c.Header.Get("Accept-Language")) {
		p.Title = k.lv
	}
	if k.status == http.StatusServiceUnavailable || k.status == http.StatusTooManyRequests {
		a.retry = max(a.retry, retryAfter)
	}
	if k.status >= http.StatusInternalServerError {
		a.cause = err
	}
	a.status, a.code, a.body = k.status, code, &p
	return a
}

// sentinels are the errors that have a code each. The first that fits is it: an
// outcome that is unknown is so for a reason that has another code.
var sentinels = []struct {
	err  error
	code domain.Code
}{
	{eventstore.ErrOutcomeUnknown, OutcomeUnknown},
	{errNotFound, NotFound},
	{errMethod, MethodNotAllowed},
	{errOtherCampaign, CampaignNotAllowed},
	{errOtherRole, RoleNotAllowed},
	{dashboard.ErrEmbargoed, Embargoed},
	{dashboard.ErrNotReached, AsOfNotReached},
	{dashboard.ErrTooFar, AsOfTooFar},
	{dashboard.ErrCounting, Counting},
	{dashboard.ErrUnavailable, ResultsUnavailable},
	{projections.ErrNoCampaign, UnknownCampaign},
	{intake.ErrStatedTime, CastAtNotAccepted},
	{errNotJSON, UnsupportedMediaType},
	{errEncoded, UnsupportedMediaType},
	{errBodyTooLarge, BodyTooLarge},
	{errBodyTimeout, RequestTimeout},
	{errBusy, Busy},
	{errInternal, Internal},
	{eventstore.ErrBusy, Busy},
	{intake.ErrContention, Busy},
	{intake.ErrNoKey, CampaignNotServed},
	{intake.ErrWrongKey, CampaignNotServed},
	{eventstore.ErrNotFound, UnknownCampaign},
	{intake.ErrNotOpened, UnknownCampaign},
	{eventstore.ErrUnavailable, Unavailable},
	{eventstore.ErrClosed, Unavailable},
	{credential.ErrNotReady, Unavailable},
	{credential.ErrMissing, Unauthorized},
	{credential.ErrMalformed, Unauthorized},
	{credential.ErrUnknown, Unauthorized},
	{credential.ErrRevoked, Unauthorized},
	{credential.ErrExpired, Unauthorized},
	{context.DeadlineExceeded, Unavailable},
	{context.Canceled, Unavailable},
}

func codeOf(err error) domain.Code {
	var refusal *domain.Refusal
	var malformed *malformedError
	var invalid *intake.InvalidError
	var tooMany *tooManyError
	switch {
	case errors.As(err, &refusal):
		return refusal.Code
	case errors.As(err, &malformed), errors.As(err, &invalid):
		return Malformed
	case errors.As(err, &tooMany):
		return TooManyRequests
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	return Internal
}

// level is how loud an answer is in the log.
func (a answer) level() slog.Level {
	switch {
	case a.code == Internal || a.code == CampaignNotServed:
		return slog.LevelError
	case a.status >= http.StatusInternalServerError && a.code != clientGone:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// write sends the answer. An error means that the client has gone, and there is
// nobody to tell.
func (a answer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	contentType := "application/json"
	if a.code != "" {
		contentType = "application/problem+json"
		h.Set("Vary", "Accept-Language")
	}
	if a.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="paldies"`)
	}
	if a.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(a.retry.Seconds()))))
	}
	if a.location != "" {
		h.Set("Location", a.location)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if a.version != "" {
		// Whoever keeps it asks each time whether it is still so, and with the same
		// credential.
		h.Set("ETag", a.version)
		h.Set("Cache-Control", "private, no-cache")
		h.Set("Vary", "Authorization")
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	text, err := json.Marshal(a.body)
	if err != nil {
		a.status, text = http.StatusInternalServerError, nil // no type here can fail
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(text, '\n'))
	}
}

// languages are those in which sentences are there; the first one is for who
// asks for none of them.
var languages = language.NewMatcher([]language.Tag{language.English, language.Latvian})

// maxLanguageBytes is the longest Accept-Language that is looked at, in bytes.
const maxLanguageBytes = 200

// latvian says whether Latvian is preferred (RFC 9110, 12.5.4).
func latvian(accept string) bool {
	switch {
	case accept == "" || len(accept) > maxLanguageBytes:
		return false
	case accept == "lv":
		return true
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return false
	}
	_, i, confidence := languages.Match(tags...)
	return i == 1 && confidence >= language.Low
}
