import type { IncomingMessage } from 'node:http'
import type { CommandHost } from './command.ts'
import { askService, askServiceJson, connectionLost, serviceUrl, type Service, type ServiceRequest } from './service-client.ts'

export const edgeDefault = 'http://127.0.0.1:10555'

/** `--edge`, of every command that can ask a node instead of the cloud. */
export const edgeOption = {
  edge: {
    value: 'URL', optional: true,
    summary: 'Ask the node itself: device API of edgecore. Default: $HOLDFAST_EDGE, or http://127.0.0.1:10555.'
  }
} as const

/** The device API of the node that `--edge` or the environment names. Throws `USAGE`. */
export function edgeService(option: string, environment: CommandHost['environment']): Service {
  const variable = environment['HOLDFAST_EDGE']
  const [source, text] = option !== '' ? ['--edge', option] : variable !== undefined && variable !== ''
    ? ['HOLDFAST_EDGE', variable] : ['default', edgeDefault]
  return {
    url: serviceUrl(source, text, `the URL of a node's device API, such as ${edgeDefault}`),
    program: 'edgecore',
    what: 'the device API of a matching edgecore',
    start: 'start edgecore on this node, or give the URL of its device API with --edge=URL or HOLDFAST_EDGE ' +
      '(endpoints.json in its data directory has it)',
    setting: '--edge or HOLDFAST_EDGE',
    codes: {
      unreachable: 'EDGE_UNREACHABLE',
      refused: { code: 'EDGE_REFUSED', own: true },
      answerInvalid: 'EDGE_ANSWER_INVALID',
      connectionLost: 'EDGE_CONNECTION_LOST'
    }
  }
}

/** Asks a node, and reads the answer as JSON. Rejects with `EDGE_…`, or with the code of a refusal. */
export async function askEdgeJson(edge: Service, request: ServiceRequest, signal: AbortSignal): Promise<unknown> {
  return await askServiceJson(edge, request, signal)
}

/** A server-sent event. */
export interface ServerEvent {
  readonly name: string
  readonly data: string
}

const eventLengthMax = 4 * 1024 * 1024

/** Events of a node's stream (WHATWG HTML, server-sent events), comments left out, until it ends. Rejects with `EDGE_…`. */
export async function* edgeEvents(edge: Service, path: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
  const response: IncomingMessage = await askService(edge, { path }, signal)
  response.setEncoding('utf8')
  let rest = ''
  try {
    for await (const text of response as AsyncIterable<string>) {
      const blocks = (rest + text).split('\n\n')
      rest = blocks.pop()!
      if (rest.length > eventLengthMax) throw new Error(`an event is longer than ${eventLengthMax} characters`)
      for (const block of blocks) {
        const fields = block.split('\n')
        const field = (name: string): string[] =>
          fields.flatMap(line => line.startsWith(`${name}:`) ? [line.slice(name.length + 1).replace(/^ /, '')] : [])
        const data = field('data')
        if (data.length > 0) yield { name: field('event')[0] ?? 'message', data: data.join('\n') }
      }
    }
  } catch (error) {
    throw signal.aborted ? error : connectionLost(edge, 'watch again', error)
  }
}
