package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// roleVariable makes the test binary act as another process of the machine.
const roleVariable = "PALDIES_NODE_TEST_ROLE"

// waitMax is the longest that a test waits for anything.
const waitMax = 2 * time.Minute

var roles = map[string]func(args []string) error{
	"hold":    roleHold,
	"batches": roleBatches,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := role(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// process is the test binary in one of its roles.
type process struct {
	*exec.Cmd
	lines *bufio.Scanner
	stdin io.Closer
}

// startProcess runs a role. It is killed at the end of the test unless it has
// ended by then.
func startProcess(t *testing.T, role string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	p := &process{Cmd: cmd, lines: bufio.NewScanner(stdout), stdin: stdin}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			p.kill(t)
		}
	})
	return p
}

// expect waits for a line that the process prints.
func (p *process) expect(t *testing.T, line string) {
	t.Helper()
	for p.lines.Scan() {
		if p.lines.Text() == line {
			return
		}
	}
	t.Fatalf("the process has ended before it said %q", line)
}

// kill ends the process without a chance to tidy up.
func (p *process) kill(t *testing.T) {
	t.Helper()
	must(t, p.Process.Kill())
	for p.lines.Scan() { // until its output is closed
	}
	_ = p.Wait() // The error says that it was killed.
}

// roleHold opens a node and keeps it until its input ends.
// Arguments: data directory, "serve" or "alone".
func roleHold(args []string) error {
	n, err := Open(context.Background(), Config{DataDir: args[0], Serve: args[1] == "serve", Command: "vote import"})
	if err != nil {
		return err
	}
	fmt.Println("open")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return n.Close()
}

// roleBatches appends batches one after the other and prints the number of each
// that is acknowledged, until it is killed.
// Arguments: data directory, number of the first batch.
func roleBatches(args []string) error {
	ctx := context.Background()
	n, err := Open(ctx, Config{DataDir: args[0], Command: "vote import"})
	if err != nil {
		return err
	}
	if err := createStream(ctx, n.Conn()); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return err
	}
	n.Stage(testStream)
	first, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for batch := first; ; batch++ {
		if _, err := publishBatch(ctx, n.Conn(), batch, batchSize); err != nil {
			return err
		}
		fmt.Println(batch)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contextFor is a context that ends with the test, or when it takes too long.
func contextFor(t *testing.T) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), waitMax)
	t.Cleanup(stop)
	return ctx
}

// open opens a node that is closed at the end of the test.
func open(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := Open(contextFor(t), c)
	must(t, err)
	t.Cleanup(func() {
		if !n.Conn().IsClosed() {
			must(t, n.Close())
		}
	})
	return n
}

// batchSize is the largest batch that a server takes, in events.
const batchSize = 1000

const testStream = "LEDGER_laba-servisa-kustība-2018"

// createStream makes the kind of stream that a ledger is.
func createStream(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: testStream, Subjects: []string{"ledger.>"}, Storage: jetstream.FileStorage, Replicas: 1,
		AllowAtomicPublish: true, AllowDirect: true, DenyDelete: true, DenyPurge: true, Discard: jetstream.DiscardNew,
	})
	return err
}

// publish appends one message durably.
func publish(ctx context.Context, nc *nats.Conn, subject, data string) (*jetstream.PubAck, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return js.Publish(ctx, subject, []byte(data), jetstream.WithRetryAttempts(0))
}

// batchData is the text of one event of a batch.
func batchData(batch, event int) string {
	return fmt.Sprintf("balsojums %d/%d: paldies Gulbenes klientu apkalpošanas centram, ēka Nr. %d", batch, event, event)
}

// stageBatch publishes the events of a batch up to the last but one, and waits
// until the server has taken each of them.
func stageBatch(ctx context.Context, nc *nats.Conn, batch, size int) error {
	for i := 1; i < size; i++ {
		m := batchMessage(batch, i)
		if _, err := answer(nc.RequestMsgWithContext(ctx, m)); err != nil {
			return err
		}
	}
	return nil
}

// publishBatch appends a batch atomically. It returns the last sequence.
func publishBatch(ctx context.Context, nc *nats.Conn, batch, size int) (uint64, error) {
	for i := 1; i < size; i++ {
		if err := nc.PublishMsg(batchMessage(batch, i)); err != nil {
			return 0, err
		}
	}
	return commitBatch(ctx, nc, batch, size)
}

// commitBatch publishes the last event of a batch, which ends it.
func commitBatch(ctx context.Context, nc *nats.Conn, batch, size int) (uint64, error) {
	m := batchMessage(batch, size)
	m.Header.Set("Nats-Batch-Commit", "1")
	return answer(nc.RequestMsgWithContext(ctx, m))
}

func batchMessage(batch, event int) *nats.Msg {
	return &nats.Msg{
		Subject: fmt.Sprintf("ledger.2018.voter.%d-%d", batch, event),
		Data:    []byte(batchData(batch, event)),
		Header:  nats.Header{"Nats-Batch-Id": {"b" + strconv.Itoa(batch)}, "Nats-Batch-Sequence": {strconv.Itoa(event)}},
	}
}

// answer reads what the server answers to an append.
func answer(m *nats.Msg, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if len(m.Data) > 0 {
		if err := json.Unmarshal(m.Data, &ack); err != nil {
			return 0, err
		}
	}
	if ack.Error != nil {
		return 0, ack.Error
	}
	return ack.Seq, nil
}

// contains reports whether a message has all the words.
func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is missing in: %s", word, text)
		}
	}
}

// streamTexts reads the data of all messages, in order.
func streamTexts(ctx context.Context, t *testing.T, nc *nats.Conn) []string {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.Stream(ctx, testStream)
	must(t, err)
	last := stream.CachedInfo().State.LastSeq
	consumer, err := js.OrderedConsumer(ctx, testStream, jetstream.OrderedConsumerConfig{})
	must(t, err)
	messages, err := consumer.Messages(jetstream.PullMaxMessages(5000))
	must(t, err)
	defer messages.Stop()
	texts := make([]string, 0, last)
	for uint64(len(texts)) < last {
		m, err := messages.Next(jetstream.NextContext(ctx))
		must(t, err)
		texts = append(texts, string(m.Data()))
	}
	return texts
}
