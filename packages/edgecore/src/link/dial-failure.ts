import { describeError } from '@holdfast/runtime'
import type { edgecoreErrorCodes } from '../error-codes.ts'

type LinkErrorCode = Extract<keyof typeof edgecoreErrorCodes, `LINK_${string}`>

/** Verification as OpenSSL names its failures (`X509_V_ERR_…`). */
const untrusted = /^(UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO_|CERT_SIGNATURE_|CERT_UNTRUSTED|CERT_REJECTED|INVALID_CA|INVALID_PURPOSE)/
const outOfTime = /^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/
/** What the other side says of our certificate, in a TLS alert. */
const refusedByServer = /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)/

/** Why a connection to the tunnel at `url` could not be made; where a person has to act, `LINK_…: ` and the way out. */
export function dialFailure(url: string, error: Error): string {
  const code = codeOf(error)
  const failure = (name: LinkErrorCode, text: string): string => `${name}: ${text}`
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return failure('LINK_SERVER_NAME', `the certificate at ${url} does not carry the name "${new URL(url).hostname}": add it to ` +
      'serverNames of cloudcore and restart that, or set `server` to a name that it carries')
  }
  if (outOfTime.test(code)) {
    return failure('LINK_SERVER_UNTRUSTED', `the certificate at ${url} is not valid by this machine's clock (${code}): set the clock, ` +
      'or restart cloudcore, which makes a new one')
  }
  if (untrusted.test(code)) {
    return failure('LINK_SERVER_UNTRUSTED', `${url} has a certificate of another CA than that of the cluster this node has joined ` +
      `(${code}): it is another cluster's cloudcore, or its identity was made anew; set \`server\` to the right one, restore ` +
      'cloudcore\'s identity folder from a backup, or join again with --force')
  }
  if (refusedByServer.test(code) || error.message.endsWith('server response: 403')) {
    return failure('LINK_NODE_REFUSED', `${url} does not take this node's certificate (${describeError(error)}): join again with --force`)
  }
  if (/server response: \d+$|ALPN|WRONG_VERSION_NUMBER|Sec-WebSocket/.test(`${code} ${error.message}`)) {
    return failure('LINK_SERVER_FOREIGN', `${url} is not a tunnel of cloudcore (${describeError(error)}): set \`server\` to its ` +
      'tunnel, port 10000 unless configured')
  }
  // With several addresses of a name, the reasons lie in an AggregateError that says nothing itself.
  const reasons = error instanceof AggregateError ? error.errors.map(describeError) : [describeError(error)]
  return [...new Set(reasons)].join(', ')
}

function codeOf(error: Error): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
