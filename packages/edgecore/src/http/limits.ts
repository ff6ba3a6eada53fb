import { recordPayloadBytesMax } from '@holdfast/protos'

/** Bounds of the device API that are not in the configuration (law L8). */
export const httpLimits = {
  recordBytes: {
    value: recordPayloadBytesMax, unit: 'bytes', meaning: 'Payload of one record.',
    atLimit: '413 RECORD_TOO_LARGE; nothing of the request is stored.'
  },
  lineBytes: {
    value: 512 * 1024, unit: 'bytes', meaning: 'One line of POST /v1/telemetry, before it is parsed.',
    atLimit: '413 RECORD_TOO_LARGE; nothing of the request is stored.'
  },
  idempotencyKeyLength: {
    value: 255, unit: 'characters', meaning: 'Idempotency-Key of a request.',
    atLimit: '400 IDEMPOTENCY_KEY_INVALID.'
  },
  idempotencyDeletions: {
    value: 64, unit: 'keys', meaning: 'Idempotency-Keys of the past that one commit deletes.',
    atLimit: 'The next commit that has a key deletes more.'
  },
  recordsReaders: {
    value: 16, unit: 'requests',
    meaning: 'Requests for records being answered at a time; no more than a quarter of http.requestsInFlightMax.',
    atLimit: '503 READERS_TOO_MANY with Retry-After.'
  },
  recordsPageBytes: {
    value: 256 * 1024, unit: 'bytes', meaning: 'Stored bytes that one reader of records holds at a time, about.',
    atLimit: 'The next page is read when the reader has taken this one.'
  },
  recordsLanes: {
    value: 15, unit: 'lanes', meaning: 'Lanes that one request for records can read together.',
    atLimit: '400 PARAMETER_INVALID: a lane has to be named.'
  },
  twinBodyBytes: {
    value: 512 * 1024, unit: 'bytes', meaning: 'Body of PATCH …/twin, PUT …/state and POST …/report.', atLimit: '413 BODY_TOO_LARGE.'
  },
  devicesPage: {
    value: 1000, unit: 'devices', meaning: 'Devices in one answer of GET /v1/devices, 500 unless `limit` says otherwise.',
    atLimit: '`next` says what to give as `after`.'
  },
  twinWatches: {
    value: 64, unit: 'watches', meaning: 'Watches of twins at a time; no more than half of http.connectionsMax.',
    atLimit: '503 WATCHES_TOO_MANY with Retry-After.'
  },
  twinWatchStallSeconds: {
    value: 60, unit: 'seconds',
    meaning: 'How long a reader of a watch may take nothing. Until then what changes is one event, the newest.',
    atLimit: 'The connection is closed.'
  },
  twinWatchHeartbeatSeconds: {
    value: 15, unit: 'seconds', meaning: 'Silence on a watch of a twin.', atLimit: 'A comment is sent.'
  }
} as const
