package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/pubsub"
)

// The streams of the queue. Each campaign has its own for outcomes.
const (
	SubmissionsStream = "SUBMISSIONS"
	PoisonStream      = "POISON"
	OutcomesPrefix    = "OUTCOMES_" // the campaign follows
)

// The subjects in them. In those of submissions and poison the channel chooses
// the last token, in those of outcomes nobody can: see OutcomeSubject.
const (
	submissionsPrefix = "submissions."
	poisonPrefix      = "poison."
	outcomesPrefix    = "outcomes."
)

// How long messages are kept, in time. What is decided goes much sooner: see
// trimInterval.
const (
	// SubmissionsKept bounds how long a submission waits for a worker.
	SubmissionsKept = 30 * 24 * time.Hour
	// PoisonKept bounds how long a submission waits for a person.
	PoisonKept = 30 * 24 * time.Hour
	// OutcomesKept is longer than a submission may be under way, first in the
	// queue, then in the poison, then in the queue again.
	OutcomesKept = 100 * 24 * time.Hour
)

// How much the streams hold, in bytes on the disk, which the server reserves:
// without a limit one channel could fill the disk, and the ledger is on it. Outcomes
// have none, because they are no more than what was submitted, and one that could
// not be written would keep its campaign waiting.
const (
	// SubmissionsBytesMax is room for about a million submissions. What comes to a
	// full queue is refused, so that its channel knows and tries again.
	SubmissionsBytesMax = 512 << 20
	// PoisonBytesMax is room for some ten thousand of the usual size and two
	// thousand of the largest. A full poison drops its oldest: if it took no more,
	// the queue would stand still for everybody.
	PoisonBytesMax = 64 << 20
)

// Error codes of the server.
const (
	codeNoRoom    jetstream.ErrorCode = 10047 // it cannot reserve the limit
	codeNoCluster jetstream.ErrorCode = 10074 // it is alone and is to keep three copies
)

const (
	// messageBytesMax is the largest message that the queue takes, headers
	// included, in bytes. It is more than a submission may have, so that a channel
	// that sends too much is seen in the poison.
	messageBytesMax = 32 << 10
	// poisonBytesMax leaves room for what the poison knows of a submission, with
	// each byte written as six. Its own headers are not taken along.
	poisonBytesMax = messageBytesMax + 8<<10
	// outcomeBytesMax is the largest outcome with its headers, in bytes.
	outcomeBytesMax = 4 << 10
	// subjectBytesMax is the longest subject, in bytes.
	subjectBytesMax = eventstore.MaxSubjectBytes
)

// OutcomesStream is the name of the stream with the outcomes of a campaign.
func OutcomesStream(campaign string) string { return OutcomesPrefix + campaign }

// ChannelConsumer is the name of the durable consumer by which a channel reads the
// outcomes of a campaign.
func ChannelConsumer(channel string) string { return "channel_" + channel }

// CreateStreams makes the streams that all campaigns share, unless they are
// there.
func CreateStreams(ctx context.Context, nc *nats.Conn, replicas int) error {
	return errors.Join(
		create(ctx, nc, pubsub.StreamConfig{Name: SubmissionsStream, Subjects: []string{submissionsPrefix + ">"}, Replicas: replicas,
			MaxAge: SubmissionsKept, MaxBytes: SubmissionsBytesMax, MaxMessageBytes: messageBytesMax}),
		create(ctx, nc, pubsub.StreamConfig{Name: PoisonStream, Subjects: []string{poisonPrefix + ">"}, Replicas: replicas,
			MaxAge: PoisonKept, MaxBytes: PoisonBytesMax, DiscardOld: true, MaxMessageBytes: poisonBytesMax}))
}

// CreateOutcomes makes the stream with a campaign's outcomes, unless it is there.
func CreateOutcomes(ctx context.Context, nc *nats.Conn, campaign string, replicas int) error {
	c := outcomesConfig(campaign, replicas)
	return create(ctx, nc, pubsub.StreamConfig{Name: c.Stream, Subjects: c.Subjects, Replicas: replicas,
		MaxAge: OutcomesKept, MaxMessageBytes: outcomeBytesMax})
}

func create(ctx context.Context, nc *nats.Conn, c pubsub.StreamConfig) error {
	err := pubsub.CreateStream(ctx, nc, c)
	switch {
	case err == nil:
		return nil
	case hasCode(err, codeNoRoom):
		return fmt.Errorf("the queue needs %d MiB of disk: make room, or raise the limit of JetStream's store: %w", c.MaxBytes>>20, err)
	}
	return unavailable(err)
}

// refusedForGood says that the servers answer and will go on refusing, until somebody
// changes how they are set up.
func refusedForGood(err error) bool {
	return hasCode(err, codeNoRoom, codeNoCluster, jetstream.JSErrCodeJetStreamNotEnabledForAccount)
}

func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

// outcomesConfig is how the outcomes of a campaign are written: as a ledger is,
// in group commits with an expectation for each. Nothing is ever recorded on the
// control subject that a ledger has, so that it governs nothing.
func outcomesConfig(campaign string, replicas int) eventstore.Config {
	prefix := outcomesPrefix + campaign
	return eventstore.Config{Stream: OutcomesStream(campaign), Subjects: []string{prefix + ".control", prefix + ".*.*.*"},
		Control: prefix + ".control", Replicas: replicas}
}

// orderKey is what is kept in order: a key of a campaign, by whatever channels
// it comes.
func orderKey(subject string) string {
	campaign, _, _ := strings.Cut(strings.TrimPrefix(subject, submissionsPrefix), ".")
	return campaign + "." + pubsub.LastToken(subject)
}

// printable says whether a subject can be published to by everybody's tools.
func printable(subject string) bool {
	for _, token := range strings.Split(subject, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' || r == '>' }) {
			return false
		}
	}
	return true
}

// campaignOfOutcomes is the inverse of OutcomesStream.
func campaignOfOutcomes(stream string) (string, bool) {
	id, ok := strings.CutPrefix(stream, OutcomesPrefix)
	return id, ok && domain.ValidateCampaignID(id) == nil
}

// SubmissionsOf is what the subjects of a campaign's submissions begin with.
func SubmissionsOf(campaign string) string { return submissionsPrefix + campaign + "." }
