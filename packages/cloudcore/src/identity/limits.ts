/** Bounds of joining and of the cluster's identity. Part of the package's table. */
export const identityLimits = {
  caLifeDays: {
    value: 10_957, unit: 'days',
    meaning: 'Life of the CA certificate, from the start that made it.',
    atLimit: 'Links that are up stay up; new connections fail. A warning is logged at each start from a third before.'
  },
  serverCertificateLifeDays: {
    value: 10_957, unit: 'days',
    meaning: 'Life of the server certificate, at most that of the CA.',
    atLimit: 'Made again at the start after two thirds of it.'
  },
  nodeCertificateLifeDays: {
    value: 10_957, unit: 'days',
    meaning: 'Life of a node\'s certificate, at most that of the CA.',
    atLimit: 'The node has to join again.'
  },
  serverNames: {
    value: 64, unit: 'names',
    meaning: 'Names and addresses configured for the server certificate.',
    atLimit: 'cloudcore does not start: CONFIG_INVALID.'
  },
  joinTokens: {
    value: 1000, unit: 'tokens',
    meaning: 'Join tokens kept, used up and expired ones included.',
    atLimit: 'Those of no more use are forgotten, oldest first; where all are of use, a new one is refused: ' +
      'TOKENS_FULL.'
  },
  joinTokenUses: {
    value: 10_000, unit: 'joins',
    meaning: 'Joins that one token can be made for.',
    atLimit: 'TOKEN_REQUEST_INVALID.'
  },
  joinTokenLifeSeconds: {
    value: 366 * 86_400, unit: 'seconds',
    meaning: 'Longest life of a join token; 24 hours unless asked for.',
    atLimit: 'TOKEN_REQUEST_INVALID.'
  },
  joinTokenKeptDays: {
    value: 7, unit: 'days',
    meaning: 'How long an expired token is remembered, so that its holder is told that it expired.',
    atLimit: 'TOKEN_UNKNOWN.'
  },
  joinRetriesRemembered: {
    value: 16, unit: 'joins',
    meaning: 'Latest joins per token that may be repeated with the same key and name without another use of the ' +
      'token, for when the answer was lost.',
    atLimit: 'The oldest is forgotten; repeating it counts as a use.'
  },
  joinBodyBytes: {
    value: 64 * 1024, unit: 'bytes',
    meaning: 'Body of a request on the join port.',
    atLimit: '413 JOIN_BODY_TOO_LARGE; a body that goes on is cut.'
  },
  joinHeaderBytes: {
    value: 16 * 1024, unit: 'bytes',
    meaning: 'Header of a request on the join port.',
    atLimit: '431, and the connection is closed.'
  },
  joinConnections: {
    value: 256, unit: 'connections',
    meaning: 'Connections to the join port at one time.',
    atLimit: 'Further ones are closed at once.'
  },
  joinRequestTimeoutSeconds: {
    value: 30, unit: 'seconds',
    meaning: 'Time for a TLS handshake, for a whole request, and between requests, each.',
    atLimit: 'The connection is closed; a request that had begun is answered 408.'
  },
  joinFailuresPerMinute: {
    value: 10, unit: 'joins',
    meaning: 'Failed joins per minute and address; with a token that is known, per minute and token instead.',
    atLimit: '429 with Retry-After, until the minute is over.'
  },
  joinFailureTable: {
    value: 4096, unit: 'addresses and tokens',
    meaning: 'Failure counts kept.',
    atLimit: 'The oldest is forgotten.'
  }
} as const
