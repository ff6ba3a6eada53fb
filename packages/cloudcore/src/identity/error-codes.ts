import type { ErrorTable } from '@holdfast/runtime'

/** What creating, opening and using the cluster's identity can answer. Part of the package's table. */
export const identityErrorCodes = {
  IDENTITY_CORRUPT: {
    cause: 'The cluster\'s CA file is half written, damaged, or lacks its certificate or its key.',
    remedy: 'Restore the named file from a backup. Without one, move the identity folder away: a new cluster ' +
      'identity is made at the next start, and every node has to join again.',
    retryable: false
  },
  IDENTITY_CA_MISSING: {
    cause: 'The identity folder is in use, but the CA file in it is gone.',
    remedy: 'Restore the named file from a backup. Without one, move the identity folder away: a new cluster ' +
      'identity is made at the next start, and every node has to join again.',
    retryable: false
  },
  IDENTITY_UNREADABLE: {
    cause: 'A file of the identity folder cannot be read or written by this user.',
    remedy: 'Give the named path to the user that cloudcore runs as.',
    retryable: false
  },
  SERVER_NAME_INVALID: {
    cause: 'A name that the server certificate should carry is neither a host name nor an IP address.',
    remedy: 'Correct the entry of `serverNames`.',
    retryable: false
  },
  TOKEN_REQUEST_INVALID: {
    cause: 'The request for a join token has an unknown field or a value out of bounds.',
    remedy: 'Correct the named field.',
    retryable: false
  },
  TOKENS_FULL: {
    cause: 'As many usable join tokens exist as are kept.',
    remedy: 'Use tokens with several uses, or wait until some expire.',
    retryable: true
  },
  TOKEN_MISSING: {
    cause: 'A join came without `Authorization: Bearer <token>`.',
    remedy: 'Use `holdfast join --token`.',
    retryable: false
  },
  TOKEN_UNKNOWN: {
    cause: 'The join token is not one of this cluster\'s, or was forgotten some days after it expired.',
    remedy: 'Make a new one with `holdfast token create`.',
    retryable: false
  },
  TOKEN_EXPIRED: {
    cause: 'The join token has expired.',
    remedy: 'Make a new one with `holdfast token create`; check the clock of the machine that cloudcore runs on.',
    retryable: false
  },
  TOKEN_USED_UP: {
    cause: 'The join token has been used as often as it may be.',
    remedy: 'Make a new one with `holdfast token create`, for several nodes with `--uses`.',
    retryable: false
  },
  TOKEN_WRONG_NODE: {
    cause: 'The join token is for another node.',
    remedy: 'Join under the name that the token is for, or make one for this node.',
    retryable: false
  },
  JOIN_REQUEST_INVALID: {
    cause: 'A join is not JSON with a node\'s name and a certificate request, or these are not acceptable.',
    remedy: 'Use `holdfast join` of this version; the message names the field.',
    retryable: false
  },
  JOIN_BODY_TOO_LARGE: {
    cause: 'The body of a request on the join port is larger than it may be.',
    remedy: 'Use `holdfast join`; its requests are about 1 KiB.',
    retryable: false
  },
  JOIN_MEDIA_TYPE: {
    cause: 'The body of a join is not application/json.',
    remedy: 'Send `Content-Type: application/json`.',
    retryable: false
  },
  JOIN_RATE_LIMITED: {
    cause: 'Too many joins from this address, or with this token, have failed within a minute.',
    remedy: 'Wait as long as Retry-After says.',
    retryable: true
  },
  JOIN_NOT_STORED: {
    cause: 'The use of the token could not be written to disk, so no certificate was issued.',
    remedy: 'Look for a full disk or a read-only file system at cloudcore; then join again with the same token.',
    retryable: true
  },
  NODE_CERTIFICATE_INVALID: {
    cause: 'A client certificate carries no node name of this cluster.',
    remedy: 'Connect with the certificate that `holdfast join` wrote.',
    retryable: false
  }
} as const satisfies ErrorTable

export type IdentityErrorCode = keyof typeof identityErrorCodes
