package control

// rules are who may call what. They are replaced, and never changed.
type rules struct {
	cfg    Config
	access *access
	minter Minter // nil where there is no key
}

// Reconfigure has calls that come from now on decided by cfg and m. Version,
// Descriptors, Tracer and Logger count for nothing there: they stay what they were.
//
// A call that lasts, PublishStream, WatchConnections or Tail, goes on if its caller
// could make it by the new Config; if not, because the token is none of
// cfg.Tokens any more or has lost the scope, it ends with the error that a new
// call would get. What was published by then is acknowledged first.
func (s *Service) Reconfigure(cfg Config, m Minter) {
	next := &rules{cfg: cfg, access: newAccess(cfg.Tokens), minter: m}
	s.rules.Store(next)
	s.limits.set(cfg.RateLimit)
	if ended := s.standing.check(next.access); ended > 0 {
		s.log.Info("control calls under way were ended, for which their callers have no token any more", "calls", ended)
	}
}
