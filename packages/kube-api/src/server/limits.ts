export const kubeApiServerLimits = {
  bodyBytesMax: {
    value: 3_145_728, unit: 'B', meaning: 'request body', atLimit: '413, before reading where Content-Length says so'
  },
  bodyDepthMax: { value: 200, unit: 'levels', meaning: 'nesting of a request body', atLimit: '400' },
  connectionsMax: { value: 1_000, unit: 'connections', meaning: 'of the API', atLimit: 'closed at once' },
  requestsInFlightMax: { value: 400, unit: 'requests', meaning: 'being handled, without watches', atLimit: '429' },
  requestsPerClientMax: {
    value: 100, unit: 'requests', meaning: 'of one user being handled, without watches', atLimit: '429'
  },
  watchesPerClientMax: { value: 500, unit: 'watches', meaning: 'of one user', atLimit: '429' },
  headerBytesMax: { value: 16_384, unit: 'B', meaning: 'request line and headers', atLimit: '431, connection closed' },
  headersTimeoutMs: {
    value: 10_000, unit: 'ms', meaning: 'for the headers of a request', atLimit: '408, connection closed'
  },
  requestTimeoutMs: {
    value: 60_000, unit: 'ms', meaning: 'for headers and body of a request', atLimit: '408, connection closed'
  },
  idleTimeoutMs: { value: 120_000, unit: 'ms', meaning: 'between requests of a connection', atLimit: 'closed' },
  drainMs: { value: 2_000, unit: 'ms', meaning: 'for requests in flight when the server stops', atLimit: 'cut' },
  watchSecondsMin: {
    value: 1_800, unit: 's', meaning: 'of a watch that names no timeout; the longest is twice that', atLimit: 'ended in good order'
  },
  slowClientMs: {
    value: 30_000, unit: 'ms', meaning: 'in which a client takes nothing of an answer', atLimit: 'connection cut'
  },
  generatedNameTriesMax: {
    value: 8, unit: 'tries', meaning: 'at a name for `generateName` that is not taken', atLimit: '409 AlreadyExists'
  }
} as const
