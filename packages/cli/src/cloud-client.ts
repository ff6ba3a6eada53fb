import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import { describeError, HoldfastError } from '@holdfast/runtime'
import { usage, type CommandHost } from './command.ts'
import type { cliErrorCodes } from './error-codes.ts'

type CloudErrorCode = Extract<keyof typeof cliErrorCodes, `CLOUD_${string}`>

/** `--cloud`, of every command that asks the cloud. */
export const cloudOption = {
  cloud: { value: 'URL', summary: 'Operations port of cloudcore. Default: $HOLDFAST_CLOUD, or http://127.0.0.1:9091.' }
} as const

export const cloudDefault = 'http://127.0.0.1:9091'

/** The operations port that `--cloud` or the environment names. Throws `USAGE`. */
export function cloudUrl(option: string | undefined, environment: CommandHost['environment']): string {
  const variable = environment['HOLDFAST_CLOUD']
  const [source, text] = option !== undefined ? ['--cloud', option] : variable !== undefined && variable !== ''
    ? ['HOLDFAST_CLOUD', variable] : ['default', cloudDefault]
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.search !== '' || url.hash !== '') {
    throw usage(`${source} "${text}": expected the URL of cloudcore's operations port, such as ${cloudDefault}`)
  }
  return url.href.replace(/\/$/, '')
}

export interface CloudRequest {
  /** Default GET. */
  readonly method?: 'GET' | 'POST'
  /** With its query. */
  readonly path: string
  /** Sent as JSON. */
  readonly body?: unknown
}

const silenceMaxMs = 15_000
const documentBytesMax = 64 * 1024 * 1024

/**
 * Asks the operations port of cloudcore; resolves with the response once its status is good, its body not yet read. The
 * body may take for ever. Rejects with `CLOUD_UNREACHABLE`, `CLOUD_REFUSED` or `CLOUD_ANSWER_INVALID`.
 */
export async function askCloud(
  cloud: string, { method = 'GET', path, body }: CloudRequest, signal: AbortSignal
): Promise<IncomingMessage> {
  const url = new URL(cloud + path)
  const text = body === undefined ? undefined : JSON.stringify(body)
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const silent = (): void => { request.destroy(new Error(`no answer within ${silenceMaxMs / 1000} s`)) }
    const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, {
      method, agent: false, signal, timeout: silenceMaxMs, headers: text === undefined ? {} : {
        'content-type': 'application/json', 'content-length': Buffer.byteLength(text)
      }
    }, answer => {
      request.off('timeout', silent)
      resolve(answer)
    })
    request.on('timeout', silent)
    request.on('error', reject)
    request.end(text)
  }).catch((error: unknown) => { throw signal.aborted ? signal.reason : unreachable(cloud, error) })
  const { statusCode = 0 } = response
  if (statusCode >= 200 && statusCode < 300) return response
  throw refused(cloud, url.pathname, statusCode, await readText(response, cloud).catch(() => ''))
}

/** The same, with the body read as JSON. */
export async function askCloudJson(cloud: string, request: CloudRequest, signal: AbortSignal): Promise<unknown> {
  const text = await readText(await askCloud(cloud, request, signal), cloud)
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw notCloudcore(cloud, `its answer is not JSON: ${text.slice(0, 80)}`, error)
  }
}

async function readText(response: IncomingMessage, cloud: string): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > documentBytesMax) throw notCloudcore(cloud, `its answer is larger than ${documentBytesMax} bytes`)
      chunks.push(chunk)
    }
  } catch (error) {
    throw error instanceof HoldfastError ? error : connectionLost(cloud, 'ask again', error)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** A connection that broke while an answer came. */
export function connectionLost(cloud: string, remedy: string, cause?: unknown): HoldfastError {
  const reason = cause === undefined ? 'cloudcore ended it' : describeError(cause)
  return failure('CLOUD_CONNECTION_LOST', `the connection to ${cloud} broke off (${reason}): ${remedy}`, cause)
}

function unreachable(cloud: string, error: unknown): HoldfastError {
  const refusedText = describeError(error).includes('ECONNREFUSED')
  return failure('CLOUD_UNREACHABLE', refusedText
    ? `nothing listens at ${cloud}: start cloudcore (\`holdfast up\` starts it with a node), or give the URL of its ` +
      'operations port with --cloud or HOLDFAST_CLOUD'
    : `${cloud} does not answer (${describeError(error)}): check the URL given with --cloud or HOLDFAST_CLOUD`, error)
}

function refused(cloud: string, path: string, status: number, text: string): HoldfastError {
  const problem = problemOf(text)
  if (problem === undefined || status === 404 || status === 405) return notCloudcore(cloud, `it answered ${path} with status ${status}`)
  const { detail, title, firstCursor } = problem
  const reason = typeof detail === 'string' ? detail : typeof title === 'string' ? title : `status ${status}`
  const remedy = typeof firstCursor === 'string' ? `; go on with --cursor ${firstCursor}` : ''
  return failure('CLOUD_REFUSED', reason + remedy)
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

const notCloudcore = (cloud: string, what: string, cause?: unknown): HoldfastError =>
  failure('CLOUD_ANSWER_INVALID', `${cloud} is not the operations port of a matching cloudcore: ${what}`, cause)

const failure = (code: CloudErrorCode, message: string, cause?: unknown): HoldfastError<CloudErrorCode> =>
  new HoldfastError(code, message, cause === undefined ? undefined : { cause })
