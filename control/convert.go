package control

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// maxDuration is the longest duration that a request may contain.
const maxDuration = 365 * 24 * time.Hour

// durationOf returns the duration in a field of a request, or absent if the field isn't
// set. If the duration is invalid, it returns a description of the problem.
func durationOf(field string, d *durationpb.Duration, absent time.Duration) (time.Duration, *apierror.Field) {
	if d == nil {
		return absent, nil
	}

	const want = "want more than 0s and at most 365 days (31536000s)"
	if d.CheckValid() != nil {
		return 0, &apierror.Field{Name: field, Problem: "is not a valid duration; " + want}
	}

	duration := d.AsDuration()
	if duration <= 0 || duration > maxDuration {
		return 0, &apierror.Field{Name: field, Problem: fmt.Sprintf("is %s; %s", duration, want)}
	}

	return duration, nil
}

// onlyTrue describes the problem with an everyone field whose value is false.
const onlyTrue = "is false; want true"

func userMessage(u broker.User) *pealv1.User {
	return &pealv1.User{UserId: u.ID, Connections: toInt32(u.Connections), ConnectedSince: timestamppb.New(u.Since)}
}

// toInt32 converts n to an int32, clamping it to the range of that type.
func toInt32(n int) int32 { return int32(max(math.MinInt32, min(n, math.MaxInt32))) }
