/** With these a side of the tunnel refuses or ends a session (a Refuse frame). The other side tries again by itself. */
export const sessionErrorCodes = {
  PROTOCOL_UNSUPPORTED: {
    cause: 'edgecore and cloudcore have no version of the tunnel protocol in common.',
    remedy: 'The message names the side to upgrade.',
    retryable: false
  },
  DUPLICATE_IDENTITY: {
    cause: 'Two running machines use one node\'s identity: a data directory was copied, or restored from a backup beside the '
      + 'original.',
    remedy: 'Stop one of them, and join it under a name of its own. Its records wait on it until then.',
    retryable: true
  },
  HELLO_TIMEOUT: {
    cause: 'A connection with a node\'s certificate did not begin a session in time.',
    remedy: 'The node dials again. If it comes back, look for what slows the link or the node\'s start.',
    retryable: true
  },
  SESSION_REPLACED: {
    cause: 'A later connection of the same node took over, as after a link that died without a word.',
    remedy: 'Nothing is to be done.',
    retryable: true
  },
  SESSION_STALE: {
    cause: 'A connection arrived after a later one of the same process.',
    remedy: 'Nothing is to be done: the later one goes on.',
    retryable: true
  },
  NODES_FULL: {
    cause: 'cloudcore holds as many nodes as `tunnel.nodesMax` allows.',
    remedy: 'Raise it, or run another cloudcore for further nodes.',
    retryable: true
  },
  STOPPING: {
    cause: 'cloudcore is being stopped.',
    remedy: 'Nothing is to be done: nodes come back when it runs again.',
    retryable: true
  },
  FRAME_MALFORMED: {
    cause: 'A message of the tunnel is no frame of the protocol, or one of its lengths is out of bounds.',
    remedy: 'Look for something between the two that changes traffic; if there is nothing, report it with the log of both sides.',
    retryable: true
  },
  FRAME_UNEXPECTED: {
    cause: 'A frame came that this side does not take in that state of the session.',
    remedy: 'Report it with the log of both sides.',
    retryable: true
  },
  BATCH_CORRUPT: {
    cause: 'A record batch arrived whose checksum is wrong.',
    remedy: 'It is sent again. If it comes back, test the memory of both machines.',
    retryable: true
  },
  LOG_HOLE: {
    cause: 'Records arrived that do not follow on those before them.',
    remedy: 'The next session compares both sides and goes on. If it comes back, report it with the log of both sides.',
    retryable: true
  },
  LOG_UNKNOWN_EPOCH: {
    cause: 'Records of a lane or epoch arrived that the greeting of the session did not name.',
    remedy: 'The next session names it. If it comes back, report it with the log of both sides.',
    retryable: true
  },
  LOG_WINDOW_EXCEEDED: {
    cause: 'More records are unacknowledged than the session may have in flight.',
    remedy: 'Report it with the log of both sides.',
    retryable: true
  },
  LOG_CONFLICT: {
    cause: 'The cloud log holds other bytes at the offset that a node sends: one of the two was restored or damaged.',
    remedy: 'The next session finds it out, and the node sends what is not acknowledged under a new epoch.',
    retryable: true
  },
  STATE_SEQUENCE: {
    cause: 'A batch of State came that does not follow on the one before it.',
    remedy: 'The next session compares both sides and goes on. If it comes back, report it with the log of both sides.',
    retryable: true
  },
  STATE_WINDOW_EXCEEDED: {
    cause: 'More changes of State were sent than may be unacknowledged.',
    remedy: 'Report it with the log of both sides.',
    retryable: true
  }
} as const satisfies Record<string, { readonly cause: string, readonly remedy: string, readonly retryable: boolean }>

export type SessionErrorCode = keyof typeof sessionErrorCodes
