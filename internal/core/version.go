package core

import "time"

// Version is an immutable snapshot of a function, its image pinned by digest.
type Version struct {
	FunctionID FunctionID
	Number     int // 1, 2, 3 per function
	Spec       Spec
	// Digest is that of the image's manifest, "sha256:..."; "" until the
	// version is resolved. It is given once, and then never changes.
	Digest    string
	CreatedAt time.Time
	CreatedBy string
	// Restores is the number of the version that a rollback made this one
	// from, 0 for a version that came by itself.
	Restores int
}

// Origin gives the number of the version that first had what this one has.
func (v Version) Origin() int {
	if v.Restores != 0 {
		return v.Restores
	}
	return v.Number
}

// Resolved reports whether it is known which image the version has. One that
// is not is resolved at its first call.
func (v Version) Resolved() bool { return v.Digest != "" }

// Definition is all that a call needs to know: a function, its app and one
// of its versions.
type Definition struct {
	App      App
	Function Function
	Version  Version
}

// Change is a function as a change left it. A deleted one has Deleted set
// and only its ids and names filled in.
type Change struct {
	Revision   int64
	Deleted    bool
	Definition Definition
}

// Rollback asks for an earlier version of a function to be called again.
type Rollback struct {
	App, Function string
	// To is the number of the version; 0 means the one before what is called
	// now.
	To int
	// IfMatch is as in [NewVersion].
	IfMatch string
}

// NewVersion asks for a new version of a function; app and function are made
// when they are not there.
type NewVersion struct {
	App, Function string
	Description   string
	Annotations   Annotations
	Spec          Spec
	// Digest pins the image; "" leaves that to the first call.
	Digest string
	// Lazy leaves the image to the first call even if its registry could be
	// asked now.
	Lazy bool
	By   string
	// Restores is as in [Version].
	Restores int
	// AppID and FunctionID are the ids that app and function get if they are
	// made.
	AppID      AppID
	FunctionID FunctionID
	At         time.Time
	// IfMatch is the entity tag the function must have; "" for any, "*" for
	// any that exists.
	IfMatch string
	// Create refuses a function that exists already.
	Create bool
}

// Validate checks names, annotations and spec.
func (n NewVersion) Validate() error {
	if err := ValidateName("app", n.App); err != nil {
		return err
	}
	if err := ValidateName("function", n.Function); err != nil {
		return err
	}
	if err := n.Annotations.Validate(); err != nil {
		return err
	}
	return n.Spec.Validate()
}
