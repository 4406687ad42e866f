package projections_test

import (
	"testing"

	"go.uber.org/goleak"

	"sakipaldies.lv/ledger/projections"
	"sakipaldies.lv/ledger/projections/projectiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryModels(t *testing.T) {
	projectiontest.Run(t, func(testing.TB) projectiontest.Store { return new(projections.MemoryModels) })
}
