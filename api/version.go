package api

import "time"

// Version is an immutable snapshot of a function.
type Version struct {
	Version  int    `json:"version" doc:"its number, from 1"`
	Digest   string `json:"digest" doc:"of the image's manifest; empty while the version is unresolved" example:"sha256:9f86d0..."`
	Restores int    `json:"restores,omitempty" doc:"number of the version that a rollback made this one from"`
	Spec
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty" doc:"who made it"`
}

// Rollback asks for an earlier version of a function to be called again.
type Rollback struct {
	To int `json:"to,omitempty" minimum:"1" doc:"number of the version; the one before what is called now, unless set"`
}
