/** Bounds of the built-in mappers (L8). */
export const mapperLimits = {
  writeTimeoutMs: {
    value: 30_000, unit: 'ms', meaning: 'A mapper\'s telling one desired value to one device.',
    atLimit: 'Given up, shown as a problem of the property, and tried again when it is due.'
  },
  retryMs: {
    value: 5000, unit: 'ms', meaning: 'From telling a desired value to telling it again, doubled each time.',
    atLimit: 'Told again until the device reports it.'
  },
  retryMsMax: {
    value: 300_000, unit: 'ms', meaning: 'Longest time between two tellings of a desired value.',
    atLimit: 'Told again at this interval.'
  },
  topics: {
    value: 8, unit: 'topics', meaning: 'Topics that one property of an MQTT device is read from.',
    atLimit: 'The property is not served, and shown as misconfigured.'
  },
  payloadDepth: {
    value: 32, unit: 'levels', meaning: 'JSON that a device sends to a built-in mapper.',
    atLimit: 'It counts as no JSON, and is a problem of the properties that are read from it.'
  },
  pointerLength: {
    value: 1024, unit: 'characters', meaning: 'A JSON pointer of a visitor.',
    atLimit: 'The property is not served, and shown as misconfigured.'
  },
  templateLength: {
    value: 16_384, unit: 'characters', meaning: 'A template for what a device is told.',
    atLimit: 'The property is not served, and shown as misconfigured.'
  },
  mapEntries: {
    value: 256, unit: 'entries', meaning: 'The map of a conversion.',
    atLimit: 'The property is not served, and shown as misconfigured.'
  },
  httpRequests: {
    value: 64, unit: 'requests',
    meaning: 'Requests at a time to HTTP devices that answered the last one; to one device there is one.',
    atLimit: 'The next one waits for its turn, first come, first served.'
  },
  httpRequestsDoubtful: {
    value: 16, unit: 'requests',
    meaning: 'Requests at a time to HTTP devices that did not answer the last one, or were never asked.',
    atLimit: 'The next one waits for its turn, first come, first served.'
  },
  httpResponseBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'Body of an HTTP device\'s answer.',
    atLimit: 'The connection is closed, and the request counts as failed.'
  },
  httpTimeoutMs: {
    value: 10_000, unit: 'ms', meaning: 'Longest timeout that a Device can ask for; the default is 5 s.',
    atLimit: 'The Device is shown as misconfigured.'
  },
  httpIntervalMs: {
    value: 100, unit: 'ms', meaning: 'Shortest interval at which an HTTP device is asked.',
    atLimit: 'A shorter collectCycle counts as this.'
  },
  httpIntervalMsMax: {
    value: 86_400_000, unit: 'ms', meaning: 'Longest interval at which an HTTP device is asked.',
    atLimit: 'A longer collectCycle counts as this.'
  },
  httpBackoffMs: {
    value: 300_000, unit: 'ms', meaning: 'Longest pause after requests that failed, where the interval is not longer.',
    atLimit: 'Asked again at this interval.'
  },
  reasonLength: {
    value: 300, unit: 'characters', meaning: 'What is shown of a problem.', atLimit: 'Cut.'
  }
} as const
