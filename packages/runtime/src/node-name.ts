/** The name of a node: an RFC 1123 subdomain in lower case, at most 253 characters, as Kubernetes names nodes. */
export type NodeName = string & { readonly __nodeName: true }

const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'
const subdomain = new RegExp(`^${label}(?:\\.${label})*$`)

/** What a node's name must look like, for messages. */
export const nodeNameRule = 'labels of a-z, 0-9 and "-" (at most 63 characters each, starting and ending with a ' +
  'letter or digit), joined by ".", at most 253 characters in all'

/** The name, or undefined where it is not one. The only place where a `NodeName` is made from text. */
export function parseNodeName(text: unknown): NodeName | undefined {
  return typeof text === 'string' && text.length <= 253 && subdomain.test(text) ? text as NodeName : undefined
}

/**
 * How a node's certificate carries the name: the one URI in its subject alternative name, in an authority that is the
 * cluster's id. Not the common name, which X.520 bounds at 64 characters (ub-common-name) where a node's name has 253;
 * the common name `node:<name>`, cut at 64, is for people and is never read.
 */
export function nodeUri(clusterUid: string, node: NodeName): string {
  return `holdfast://${clusterUid}/nodes/${node}`
}

/**
 * Name and cluster of a certificate from its subject alternative name as `node:crypto` and `node:tls` print it
 * (`URI:holdfast://<clusterUid>/nodes/<name>`). Undefined unless that URI is all there is: a second name would leave
 * open which one counts.
 */
export function parseNodeSubject(
  subjectAltName: string | undefined
): { readonly clusterUid: string; readonly node: NodeName } | undefined {
  const match = /^URI:holdfast:\/\/([0-9a-f-]{36})\/nodes\/([a-z0-9.-]{1,253})$/.exec(subjectAltName ?? '')
  const node = parseNodeName(match?.[2])
  return match === null || node === undefined ? undefined : { clusterUid: match[1]!, node }
}
