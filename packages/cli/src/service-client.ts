import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps, type RequestOptions } from 'node:https'
import { describeError, HoldfastError } from '@holdfast/runtime'
import { usage } from './command.ts'

/** A daemon's HTTP port, and how messages speak of it. */
export interface Service {
  readonly url: string
  /** `the operations port of a matching cloudcore` */
  readonly what: string
  readonly program: 'cloudcore' | 'edgecore'
  /** What to do where nothing listens. */
  readonly start: string
  /** `--cloud or HOLDFAST_CLOUD` */
  readonly setting: string
  readonly codes: {
    readonly unreachable: string
    /** `own`: the code of the problem itself, where it has one. */
    readonly refused: { readonly code: string, readonly own: boolean }
    readonly answerInvalid: string
    readonly connectionLost: string
  }
}

export interface ServiceRequest {
  /** Default GET. */
  readonly method?: 'GET' | 'POST' | 'PATCH'
  /** With its query. */
  readonly path: string
  /** Sent as JSON. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** The URL of a daemon's port as an option or the environment gives it. Throws `USAGE`; `what` is what was expected. */
export function serviceUrl(source: string, text: string, what: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.search !== '' || url.hash !== '') {
    throw usage(`${source} "${text}": expected ${what}`)
  }
  return url.href.replace(/\/$/, '')
}

const silenceMaxMs = 15_000
const documentBytesMax = 64 * 1024 * 1024

/** Method, headers and TLS of a request. */
export type RequestHead = Omit<RequestOptions, 'headers'> & { readonly headers: Readonly<Record<string, string>> }

/**
 * Sends a request, and resolves with the response once its head has come; its body may take for ever. Rejects with the
 * connection's error, or with the signal's reason.
 */
export async function sendRequest(
  url: URL, { headers, ...options }: RequestHead, body: string | undefined, signal: AbortSignal
): Promise<IncomingMessage> {
  return await new Promise<IncomingMessage>((resolve, reject) => {
    const silent = (): void => { request.destroy(new Error(`no answer within ${silenceMaxMs / 1000} s`)) }
    const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, {
      agent: false, signal, timeout: silenceMaxMs, ...options, headers: {
        ...headers, ...body !== undefined && { 'content-length': Buffer.byteLength(body) }
      }
    }, answer => {
      request.off('timeout', silent)
      resolve(answer)
    })
    request.on('timeout', silent)
    request.on('error', error => reject(signal.aborted ? signal.reason as Error : error))
    request.end(body)
  })
}

/** The whole body, of at most 64 MiB. Rejects with the connection's error, or with `tooLarge` of the bound. */
export async function readText(response: IncomingMessage, tooLarge: (bytesMax: number) => Error): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > documentBytesMax) throw tooLarge(documentBytesMax)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/**
 * Asks a daemon; resolves with the response once its status is good, its body not yet read. Rejects with the service's
 * codes.
 */
export async function askService(
  service: Service, { method = 'GET', path, body, headers }: ServiceRequest, signal: AbortSignal
): Promise<IncomingMessage> {
  const url = new URL(service.url + path)
  const text = body === undefined ? undefined : JSON.stringify(body)
  const response = await sendRequest(url, {
    method, headers: { ...text !== undefined && { 'content-type': 'application/json' }, ...headers }
  }, text, signal).catch((error: unknown) => { throw signal.aborted ? error : unreachable(service, error) })
  const { statusCode = 0 } = response
  if (statusCode >= 200 && statusCode < 300) return response
  throw refused(service, url.pathname, statusCode, await textOf(response, service).catch(() => ''))
}

/** The same, with the body read as JSON. */
export async function askServiceJson(service: Service, request: ServiceRequest, signal: AbortSignal): Promise<unknown> {
  const text = await textOf(await askService(service, request, signal), service)
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw notTheService(service, `its answer is not JSON: ${text.slice(0, 80)}`, error)
  }
}

async function textOf(response: IncomingMessage, service: Service): Promise<string> {
  try {
    return await readText(response, bytesMax => notTheService(service, `its answer is larger than ${bytesMax} bytes`))
  } catch (error) {
    throw error instanceof HoldfastError ? error : connectionLost(service, 'ask again', error)
  }
}

/** A connection that broke while an answer came. */
export function connectionLost({ url, program, codes }: Service, remedy: string, cause?: unknown): HoldfastError {
  const reason = cause === undefined ? `${program} ended it` : describeError(cause)
  return failure(codes.connectionLost, `the connection to ${url} broke off (${reason}): ${remedy}`, cause)
}

function unreachable({ url, start, setting, codes }: Service, error: unknown): HoldfastError {
  return failure(codes.unreachable, describeError(error).includes('ECONNREFUSED')
    ? `nothing listens at ${url}: ${start}`
    : `${url} does not answer (${describeError(error)}): check the URL given with ${setting}`, error)
}

function refused(service: Service, path: string, status: number, text: string): HoldfastError {
  const { refused: { code, own } } = service.codes
  const problem = problemOf(text)
  const named = own && typeof problem?.['code'] === 'string' ? problem['code'] : undefined
  if (problem === undefined || (named === undefined && (status === 404 || status === 405))) {
    return notTheService(service, `it answered ${path} with status ${status}`)
  }
  const { detail, title, firstCursor } = problem
  const reason = typeof detail === 'string' ? detail : typeof title === 'string' ? title : `status ${status}`
  const remedy = typeof firstCursor === 'string' ? `; go on with --cursor ${firstCursor}` : ''
  return failure(named ?? code, reason + remedy)
}

/** An RFC 9457 document. */
function problemOf(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = JSON.parse(text) as unknown
    return typeof value === 'object' && value !== null && 'title' in value ? { ...value } : undefined
  } catch {
    return undefined
  }
}

const notTheService = ({ url, what, codes }: Service, why: string, cause?: unknown): HoldfastError =>
  failure(codes.answerInvalid, `${url} is not ${what}: ${why}`, cause)

const failure = (code: string, message: string, cause?: unknown): HoldfastError =>
  new HoldfastError(code, message, cause === undefined ? undefined : { cause })
