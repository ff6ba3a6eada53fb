import type { ErrorTable } from '@holdfast/runtime'

/**
 * What the device API answers, beside the codes of the store (`OUTBOX_FULL`, `DISK_FULL`, `STORE_FAILED`) and those that it
 * shares with the cloud's readers (`PARAMETER_INVALID`, `CURSOR_EXPIRED`, `CURSOR_FOREIGN`).
 */
export const httpErrorCodes = {
  BODY_TOO_LARGE: {
    cause: 'A request body is longer than `http.bodyBytesMax`.',
    remedy: 'Send fewer records in a request, or raise http.bodyBytesMax.',
    retryable: false
  },
  RECORD_TOO_LARGE: {
    cause: 'A record\'s payload, or a line, is longer than a record can be, or than its lane can ever hold.',
    remedy: 'Split the payload; docs/limits.md has the bounds.',
    retryable: false
  },
  RECORDS_TOO_MANY: {
    cause: 'A request holds more records than `http.recordsPerRequestMax`.',
    remedy: 'Send fewer records in a request, or raise the setting.',
    retryable: false
  },
  RECORD_INVALID: {
    cause: 'A line of a request is not a record; the problem names the line, the field, its value and what is expected.',
    remedy: 'Correct the line and send the whole request again: nothing of it was stored.',
    retryable: false
  },
  MEDIA_TYPE_UNSUPPORTED: {
    cause: 'The body has a content type or a content encoding that this path does not take.',
    remedy: 'Send `application/x-ndjson` to /v1/telemetry, JSON as `application/json` to …/twin and …/state, and bodies without ' +
      'a content encoding everywhere.',
    retryable: false
  },
  DEVICE_INVALID: {
    cause: 'The namespace or the name in the path cannot be a device\'s.',
    remedy: 'Use letters, digits, ".", "_" and "-", beginning with a letter or a digit.',
    retryable: false
  },
  TOPIC_NOT_ROUTED: {
    cause: 'No route of the configuration leads the telemetry of this device to a lane.',
    remedy: 'Add a route whose filter matches `devices/<namespace>/<name>/telemetry`.',
    retryable: false
  },
  IDEMPOTENCY_KEY_INVALID: {
    cause: 'The Idempotency-Key is empty, too long, given twice, or has other than visible ASCII characters.',
    remedy: 'Use a UUID, for instance, one per request and not per attempt.',
    retryable: false
  },
  IDEMPOTENCY_KEY_REUSED: {
    cause: 'The Idempotency-Key came before with another path, content type or body.',
    remedy: 'Repeat a request as it was, or give a new one a new key.',
    retryable: false
  },
  TWIN_DOCUMENT_INVALID: {
    cause: 'The body of a write to a twin is not a JSON object with properties, or with a state.',
    remedy: 'Send what the problem names; docs/spec/device-http.md has examples.',
    retryable: false
  },
  WATCHES_TOO_MANY: {
    cause: 'As many watches of twins are open as may be.',
    remedy: 'Close one, or try again after the time in Retry-After.',
    retryable: true
  },
  READERS_TOO_MANY: {
    cause: 'As many requests for records are being answered as may be.',
    remedy: 'Try again after the time in Retry-After.',
    retryable: true
  }
} as const satisfies ErrorTable

export type HttpErrorCode = keyof typeof httpErrorCodes
