package web

// MayTrail is for the fuzz tests, which compare trailers.
var MayTrail = mayTrail
