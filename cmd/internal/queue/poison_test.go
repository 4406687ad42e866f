package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/intake"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// What can never succeed goes to the poison with its reason, and nothing waits for
// it.
func TestPoison(t *testing.T) {
	w := newWorld(t)
	good := `{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`
	place := "submissions." + campaign + ".web.kads"
	changed := func(old, changed string) string { return strings.Replace(good, old, changed, 1) }
	cases := []struct{ subject, body, reason string }{
		{place, "Paldies!", "the body is not JSON: at byte 0"},
		{place, good[:20], "the body is not JSON: at byte 20"},
		{place, "", "the body is not JSON"},
		{place, "[" + good + "]", "see `paldies schema submission`"},
		{place, changed(`"vote"`, `"vote","cast":1`), "see `paldies schema submission`"},
		{place, changed(`"vote"`, `"vote","action":"vote"`), "the body is not JSON"},
		{place, changed(`"vote"`, `"annul"`), `action is not "vote" or "retract"`},
		{place, changed(`"submission_id":"1",`, ``), "submission_id is not 1 to 128 bytes"},
		{place, changed(`ilze-berzina`, `Ilze Bērziņa`), "specialist_id is not 1 to 64 characters"},
		{place, changed(`kāds`, `lv-pk:1`), "a personal code after"},
		{place, changed(`"kāds"`, `""`), "voter id is empty"},
		{place, changed(`"vote"`, `"vote","cast_at":"2018-03-01T09:30:00+02:00"`), "this channel may not state a time"},
		{"submissions." + campaign + ".in_person.kads", changed(`"vote"`, `"vote","cast_at":"vakar"`), "cast_at is not a time with an offset"},
		{"submissions." + campaign + ".slip.kads", good, "has no identity: leave the voter empty"},
		{place, changed(`kāds`, strings.Repeat("ā", 10_000)), "the body has 20079 bytes, at most 8192 are allowed"},
		{"submissions.cita.web.kads", good, "there is no such campaign"},
		{"submissions." + campaign + ".web", good, "the subject is not submissions.CAMPAIGN.CHANNEL.KEY"},
		{"submissions." + campaign + ".web.a.b", good, "the subject is not submissions.CAMPAIGN.CHANNEL.KEY"},
		{"submissions." + campaign + ".Web.kads", good, "channel \"Web\""},
		{"submissions.Cita.web.kads", good, "campaign id \"Cita\""},
		{"submissions." + campaign + ".web." + strings.Repeat("k", 100), good, "as the key"},
		{"submissions." + campaign + ".web.kāds", good, "as the key"},
	}
	for _, c := range cases {
		w.publish(c.subject, c.body)
	}
	headers := nats.NewMsg(place)
	headers.Header.Add("Paldies-Metadata", "nothing")
	headers.Data = []byte(good)
	_, err := w.nc.RequestMsg(headers, closeTimeout)
	check(t, err)
	w.start()
	if outcomes, _ := w.decided(vote("kāds", "zane-cirule", "2")); outcomes["vote 2"].Status != queue.Accepted {
		t.Errorf("a good one behind them: %+v", outcomes)
	}
	w.drained()
	list := w.poisoned(len(cases) + 1)
	bySubject := make(map[string]string)
	for _, q := range list {
		if strings.Contains(q.Reason, "kāds") && !strings.Contains(q.Subject, "kāds") || q.Submitted.IsZero() {
			t.Errorf("the reason repeats the voter, or the time is missing: %+v", q)
		}
		bySubject[q.Subject+"\x00"+string(q.Body)] = q.Reason
	}
	for _, c := range cases {
		if reason, ok := bySubject[c.subject+"\x00"+c.body]; !ok || !strings.Contains(reason, c.reason) {
			t.Errorf("%s %.60s: %q, want %q", c.subject, c.body, reason, c.reason)
		}
	}
	if w.voterEvents() != 1 {
		t.Errorf("%d events of voters", w.voterEvents())
	}
}

// Whatever a channel writes into headers and subjects, the poison takes it, and the
// submission leaves the queue.
func TestThePoisonTakesEverything(t *testing.T) {
	w := newWorld(t)
	good := `{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`
	growing := "\t" + strings.Repeat("<", 20_000) // six times as long in JSON
	send := func(subject, body string, header nats.Header) {
		t.Helper()
		_, err := w.nc.RequestMsg(&nats.Msg{Subject: subject, Header: header, Data: []byte(body)}, closeTimeout)
		check(t, err)
	}
	place := "submissions." + campaign + ".web.kads"
	send(place, "Paldies!", nats.Header{"Note": {"a" + growing}, "correlation_id": {"app-17"}})
	send(place, "Paldies!", nats.Header{"correlation_id": {"a" + growing}})
	send(place, "Paldies!", nats.Header{"Paldies-Metadata": {`{"a":"` + strings.Repeat("<", 20_000) + `"}`}})
	send(place, good, nats.Header{"Paldies-Metadata": {growing}}) // malformed
	send(place+"\xff\x01", good, nil)
	send("submissions.\x01"+strings.Repeat("<", 2_000), strings.Repeat("ā", 14_000), nil)
	w.start()
	if outcomes, _ := w.decided(vote("kāds", "zane-cirule", "2")); outcomes["vote 2"].Status != queue.Accepted {
		t.Errorf("a good one behind them: %+v", outcomes)
	}
	w.drained()
	for _, q := range w.poisoned(6) {
		if q.Reason == "" || q.Submitted.IsZero() || strings.HasPrefix(q.Reason, "unknown") {
			t.Errorf("the reason or the time is missing: %+v", q)
		}
	}
}

// A campaign that is opened later: what was submitted before is retried, in its
// order. A body can be mended. What is dropped is gone.
func TestMended(t *testing.T) {
	w := newWorld(t)
	w.start()
	for _, body := range []string{
		`{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`,
		`{"submission_id":"2","voter":"kāds","specialist_id":"ilze-berzina","action":"retract"}`,
		`{"submission_id":"3","voter":"kāds","specialist_id":"ilze-berzina","action":"vot"}`,
		`{"submission_id":"4"}`,
	} {
		w.publish("submissions.cita.web.kads", body)
	}
	list := w.poisoned(4)
	w.open("cita")
	p := queue.NewPoison(w.nc)
	list[2].Body = []byte(`{"submission_id":"3","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`)
	w.retry(3, list[:3]...)
	check(t, p.Drop(t.Context(), list[3:]))
	w.drained()
	w.poisoned(0)
	counts, err := queue.CountOutcomes(t.Context(), w.nc, "cita")
	check(t, err)
	if counts["accepted"] != 3 || len(counts) != 1 {
		t.Errorf("the outcomes are %v", counts)
	}
	if _, err := p.Get(t.Context(), list[0].ID); !errors.Is(err, queue.ErrNotPoisoned) {
		t.Errorf("one that was retried: %v", err)
	}
	check(t, p.Drop(t.Context(), list[:1])) // again
}

// One that cannot be published again is named, and the others are.
func TestRetryIsNotBlocked(t *testing.T) {
	w := newWorld(t)
	put := func(topic, body string) {
		t.Helper()
		_, err := w.nc.RequestMsg(&nats.Msg{Subject: "poison.unfiled", Header: nats.Header{"topic_poisoned": {topic}}, Data: []byte(body)}, closeTimeout)
		check(t, err)
	}
	good := `{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`
	put("submissions."+campaign+".*.kads", good)
	put("elsewhere.a.b.c", good)
	put("", good)
	place := "submissions." + campaign + ".web.kads"
	put(place, strings.Repeat(" ", 35_000)+good) // more than the queue takes
	put(place, good)
	list := w.poisoned(5)
	n, err := queue.NewPoison(w.nc).Retry(t.Context(), list)
	if n != 1 || err == nil || !strings.Contains(err.Error(), "submission 1 can only be dropped") || !strings.Contains(err.Error(), "submission 4") || strings.Contains(err.Error(), "submission 5") {
		t.Errorf("%d are retried: %v", n, err)
	}
	if left := w.poisoned(4); left[3].ID != 4 {
		t.Errorf("what stays is %+v", left)
	}
	w.start()
	w.drained()
	if events := w.voterEvents(); events != 1 {
		t.Errorf("%d events of voters", events)
	}
}

// retry wants so many of the submissions to go back into the queue.
func (w *world) retry(want int, list ...queue.Poisoned) {
	w.t.Helper()
	n, err := queue.NewPoison(w.nc).Retry(w.t.Context(), list)
	check(w.t, err)
	if n != want {
		w.t.Errorf("%d are retried, want %d", n, want)
	}
}

// One channel cannot fill the disk, neither with submissions nor by the poison.
func TestTheStreamsHaveLimits(t *testing.T) {
	w := newWorld(t)
	js, err := jetstream.New(w.nc)
	check(t, err)
	for name, discard := range map[string]jetstream.DiscardPolicy{queue.SubmissionsStream: jetstream.DiscardNew, queue.PoisonStream: jetstream.DiscardOld} {
		stream, err := js.Stream(t.Context(), name)
		check(t, err)
		if c := stream.CachedInfo().Config; c.MaxBytes <= 0 || c.MaxBytes > 1<<30 || c.Discard != discard {
			t.Errorf("%s takes %d bytes and then does %v", name, c.MaxBytes, c.Discard)
		}
	}
	small := storetest.NewServer(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 }).Connect(t)
	if err := queue.CreateStreams(t.Context(), small, 1); err == nil || !strings.Contains(err.Error(), "the queue needs 512 MiB of disk") {
		t.Errorf("without room: %v", err)
	}
}

// What is removed while somebody reads it is not waited for.
func TestReadingEndsWhenTheRestIsGone(t *testing.T) {
	w := newWorld(t)
	js, err := jetstream.New(w.nc)
	check(t, err)
	const n = 2000 // more than are fetched ahead
	for range n {
		_, err := js.PublishAsync("poison.unfiled", []byte("Paldies!"))
		check(t, err)
	}
	<-js.PublishAsyncComplete()
	stream, err := js.Stream(t.Context(), queue.PoisonStream)
	check(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	read := 0
	check(t, queue.ReadAll(ctx, w.nc, queue.PoisonStream, func(jetstream.Msg) error {
		if read++; read == 1 {
			return stream.Purge(ctx)
		}
		return nil
	}))
	if read == 0 || read == n {
		t.Errorf("%d of %d are read", read, n)
	}
}

// A campaign whose key is not here keeps nobody else waiting. Its submissions wait
// a while for the key, and then in the poison.
func TestMissingKey(t *testing.T) {
	w := newWorld(t)
	w.missing = []string{"cita"}
	w.open("cita")
	body := `{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`
	w.publish("submissions.cita.web.kads", body)
	r := w.start()
	if outcomes, _ := w.decided(vote("kāds", "zane-cirule", "2")); outcomes["vote 2"].Status != queue.Accepted {
		t.Errorf("another campaign's: %+v", outcomes)
	}
	r.end()
	if b, err := queue.ReadBacklog(t.Context(), w.nc); err != nil || b.Pending+uint64(b.InFlight) != 1 || b.Oldest.IsZero() {
		t.Errorf("one should wait: %+v, %v", b, err)
	}
	// What has waited long for a worker is not given up at once: the five minutes
	// are the worker's own.
	clock, metrics := newLateClock(10*time.Minute), queue.NewMetrics()
	r = w.start(func(c *queue.Config) { c.Now, c.Metrics = clock.now, metrics })
	storetest.Eventually(t, "it was tried again and again", func() bool { return counted(t, metrics, "paldies_queue_faults_total") >= 3 })
	w.poisoned(0)
	clock.advance(10 * time.Minute)
	if q := w.poisoned(1)[0]; !strings.Contains(q.Reason, "for 5m0s and longer") || !strings.Contains(q.Reason, "pseudonym key is missing") {
		t.Errorf("the reason is %q", q.Reason)
	}
	r.end()
	w.mu.Lock()
	w.missing = nil
	w.mu.Unlock()
	w.start()
	w.retry(1, w.poisoned(1)...)
	w.drained()
	if counts, err := queue.CountOutcomes(t.Context(), w.nc, "cita"); err != nil || counts["accepted"] != 1 {
		t.Errorf("the outcomes are %v, %v", counts, err)
	}
}

// So many wait for a key and no more: the worker has to have room for others.
func TestMissingKeyOfACrowd(t *testing.T) {
	w := newWorld(t)
	w.missing = []string{"cita"}
	w.open("cita")
	const beyond = 3
	items := make([]queue.Item, queue.MaxWaiting+beyond)
	for i := range items {
		items[i] = vote(fmt.Sprintf("balsotājs %d", i), "ilze-berzina", fmt.Sprint(i))
	}
	check(t, queue.Submit(t.Context(), w.nc, "cita", items, func(int) {}))
	w.start()
	for _, q := range w.poisoned(beyond) {
		if !strings.Contains(q.Reason, "submissions wait for it already") || !strings.Contains(q.Reason, "pseudonym key is missing") {
			t.Errorf("the reason is %q", q.Reason)
		}
	}
	if outcomes, _ := w.decided(vote("kāds", "zane-cirule", "1")); outcomes["vote 1"].Status != queue.Accepted {
		t.Errorf("another campaign's: %+v", outcomes)
	}
	storetest.Eventually(t, fmt.Sprintf("%d wait", queue.MaxWaiting), func() bool {
		b, err := queue.ReadBacklog(t.Context(), w.nc)
		check(t, err)
		return b.Pending+uint64(b.InFlight) == queue.MaxWaiting
	})
}

// lateClock is ahead of the time by as much as it is told.
type lateClock struct{ ahead atomic.Int64 }

func newLateClock(ahead time.Duration) *lateClock {
	c := new(lateClock)
	c.advance(ahead)
	return c
}

func (c *lateClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *lateClock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// leaderless are campaigns of which servers say that they cannot now.
type leaderless struct {
	queue.Campaigns
	elected atomic.Bool
}

func (l *leaderless) Get(ctx context.Context, campaign string) (*intake.Intake, error) {
	if !l.elected.Load() {
		return nil, &jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}
	}
	return l.Campaigns.Get(ctx, campaign)
}

// A fault of the servers passes by itself, however long it lasts: nothing goes to
// the poison because of it.
func TestLongFault(t *testing.T) {
	w := newWorld(t)
	var campaigns leaderless
	clock, metrics := newLateClock(0), queue.NewMetrics()
	w.start(func(c *queue.Config) {
		campaigns.Campaigns = c.Campaigns
		c.Campaigns, c.Now, c.Metrics = &campaigns, clock.now, metrics
	})
	w.submit(vote("kāds", "ilze-berzina", "1"))
	for n := 1.0; n <= 2; n++ {
		storetest.Eventually(t, "it was given back", func() bool { return counted(t, metrics, "paldies_queue_faults_total") >= n })
		clock.advance(time.Hour)
	}
	campaigns.elected.Store(true)
	w.drained()
	w.poisoned(0)
	if n := w.count(); n != 1 {
		t.Errorf("%d outcomes", n)
	}
}

// damaged is a ledger in which a ballot cannot be read, which it says with the
// ballot's subject.
type damaged struct {
	intake.Ledger
	said chan string // the subjects
}

func (d damaged) History(ctx context.Context, subject string, after uint64, read eventstore.Read) ([]eventstore.Recorded, error) {
	if strings.Contains(subject, ".voter.") {
		select {
		case d.said <- subject:
		default:
		}
		return nil, fmt.Errorf("%s: a record is damaged", subject)
	}
	return d.Ledger.History(ctx, subject, after, read)
}

type oneCampaign struct{ in *intake.Intake }

func (o oneCampaign) Get(context.Context, string) (*intake.Intake, error) { return o.in, nil }

// The voter's id and the pseudonym do not stand side by side in the poison: who
// saw both could tell what the voter did.
func TestPoisonWithoutPseudonym(t *testing.T) {
	w := newWorld(t)
	said := make(chan string, 1)
	in := w.intake(damaged{w.ledger(w.nc, campaign), said}, campaign)
	clock, metrics := newLateClock(0), queue.NewMetrics()
	w.start(func(c *queue.Config) { c.Campaigns, c.Now, c.Metrics = oneCampaign{in}, clock.now, metrics })
	w.submit(vote("kāds", "ilze-berzina", "1"))
	subject := <-said
	storetest.Eventually(t, "it was given back", func() bool { return counted(t, metrics, "paldies_queue_faults_total") >= 1 })
	clock.advance(10 * time.Minute)
	pseudonym := subject[strings.LastIndexByte(subject, '.')+1:]
	if q := w.poisoned(1)[0]; !strings.Contains(q.Reason, "a record is damaged") || strings.Contains(q.Reason, pseudonym) {
		t.Errorf("of the pseudonym %s the reason is %q", pseudonym, q.Reason)
	}
}

// Nobody brings the key of a campaign that is over, so that it is not waited for.
func TestMissingKeyOfClosed(t *testing.T) {
	w := newWorld(t)
	w.open("cita")
	_, err := w.intake(w.ledger(w.nc, "cita"), "cita").Close(t.Context(), "")
	check(t, err)
	w.missing = []string{"cita"}
	w.start()
	w.publish("submissions.cita.web.kads", `{"submission_id":"1","voter":"kāds","specialist_id":"ilze-berzina","action":"vote"}`)
	if q := w.poisoned(1)[0]; !strings.Contains(q.Reason, "pseudonym key is missing") || !strings.Contains(q.Reason, "the campaign is over") {
		t.Errorf("the reason is %q", q.Reason)
	}
}
