import type { IncomingMessage } from 'node:http'
import type { HoldfastError } from '@holdfast/runtime'
import type { CommandHost } from './command.ts'
import type { CliErrorCode } from './error-codes.ts'
import {
  askService, askServiceJson, connectionLost as lostConnection, serviceUrl, type Service, type ServiceRequest
} from './service-client.ts'

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
  return serviceUrl(source, text, `the URL of cloudcore's operations port, such as ${cloudDefault}`)
}

/**
 * Asks the operations port of cloudcore; resolves with the response once its status is good, its body not yet read. The
 * body may take for ever. Rejects with `CLOUD_UNREACHABLE`, `CLOUD_REFUSED` or `CLOUD_ANSWER_INVALID`.
 */
export async function askCloud(cloud: string, request: ServiceRequest, signal: AbortSignal): Promise<IncomingMessage> {
  return await askService(cloudService(cloud), request, signal)
}

/** The same, with the body read as JSON. */
export async function askCloudJson(cloud: string, request: ServiceRequest, signal: AbortSignal): Promise<unknown> {
  return await askServiceJson(cloudService(cloud), request, signal)
}

/** A connection that broke while an answer came. */
export function connectionLost(cloud: string, remedy: string, cause?: unknown): HoldfastError {
  return lostConnection(cloudService(cloud), remedy, cause)
}

const codes = {
  unreachable: 'CLOUD_UNREACHABLE',
  refused: { code: 'CLOUD_REFUSED', own: false },
  answerInvalid: 'CLOUD_ANSWER_INVALID',
  connectionLost: 'CLOUD_CONNECTION_LOST'
} as const satisfies Service['codes'] & { readonly unreachable: CliErrorCode }

function cloudService(url: string): Service {
  return {
    url, codes, program: 'cloudcore',
    what: 'the operations port of a matching cloudcore',
    start: 'start cloudcore (`holdfast up` starts it with a node), or give the URL of its operations port with --cloud or ' +
      'HOLDFAST_CLOUD',
    setting: '--cloud or HOLDFAST_CLOUD'
  }
}
