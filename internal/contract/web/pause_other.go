//go:build !linux

package web

import (
	"context"
	"time"
)

func pause(ctx context.Context, d time.Duration) { pauseTimer(ctx, d) }
