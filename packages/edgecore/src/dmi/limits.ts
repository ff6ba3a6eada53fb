/** Bounds of the interface to mappers that are not in the configuration (law L8; docs/spec/dmi.md). */
export const dmiLimits = {
  mappers: {
    value: 64, unit: 'mappers', meaning: 'Registrations that are kept, one per protocol.',
    atLimit: 'One without devices gives way; where each has some, RESOURCE_EXHAUSTED.'
  },
  connections: {
    value: 64, unit: 'connections', meaning: 'Connections of mappers to the socket at a time.',
    atLimit: 'One more is closed at once.'
  },
  callsPerConnection: {
    value: 64, unit: 'calls', meaning: 'Calls that one connection may have waiting.',
    atLimit: 'Its client holds further ones back, as HTTP/2 has it.'
  },
  callsWaiting: {
    value: 512, unit: 'calls', meaning: 'Calls of all mappers that wait for their commit.',
    atLimit: 'RESOURCE_EXHAUSTED; the mapper tries again.'
  },
  messageBytes: {
    value: 4 * 1024 * 1024, unit: 'bytes', meaning: 'A message from a mapper.',
    atLimit: 'RESOURCE_EXHAUSTED.'
  },
  registerAnswerBytes: {
    value: 3 * 1024 * 1024, unit: 'bytes',
    meaning: 'Models and devices in the answer to MapperRegister; clients take 4 MiB unless they are told otherwise.',
    atLimit: 'The rest follows by CreateDeviceModel and RegisterDevice.'
  },
  textLength: {
    value: 253, unit: 'characters', meaning: 'Name, version, API version and protocol of a mapper.',
    atLimit: 'INVALID_ARGUMENT.'
  },
  addressBytes: {
    value: 107, unit: 'bytes', meaning: 'Path of a Unix socket, a mapper\'s or our own, as Linux takes it.',
    atLimit: 'INVALID_ARGUMENT; for our own LISTEN_FAILED.'
  },
  twinsPerReport: {
    value: 256, unit: 'properties', meaning: 'Twins of one ReportDeviceStatus.',
    atLimit: 'INVALID_ARGUMENT; nothing of it is stored.'
  },
  connectTimeoutMs: {
    value: 5_000, unit: 'milliseconds', meaning: 'From dialling a mapper to its HTTP/2 settings.',
    atLimit: 'It is dialled again, after a random time up to connectRetryMaxMs.'
  },
  connectRetryMaxMs: {
    value: 10_000, unit: 'milliseconds', meaning: 'Longest time between attempts to reach a mapper that something is to be told.',
    atLimit: 'It stays so until the mapper is reached.'
  },
  callRetryMaxMs: {
    value: 300_000, unit: 'milliseconds',
    meaning: 'Longest time until a call that a mapper refused or did not answer is made again.',
    atLimit: 'It stays so until the mapper takes it.'
  },
  repeatMaxMs: {
    value: 300_000, unit: 'milliseconds',
    meaning: 'Longest time until a device that does not report its desired values is told again; the first is 5 s, or twice its ' +
      'cycle.',
    atLimit: 'It stays so until they are reported.'
  },
  removalTries: {
    value: 10, unit: 'calls', meaning: 'Removals of one device or model that a mapper may refuse.',
    atLimit: 'It is taken to be gone.'
  },
  stopMs: {
    value: 2_000, unit: 'milliseconds', meaning: 'For calls that wait for their commit when edgecore stops.',
    atLimit: 'Their connections are closed; they were not acknowledged.'
  }
} as const
