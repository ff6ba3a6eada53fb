import { jsonReply } from '@holdfast/runtime'
import type { Clock, HttpProblem, HttpReply, HttpRequest, HttpRoute } from '@holdfast/runtime'
import type { DeviceReport, DeviceReports } from '../mappers/index.ts'
import { parseDeviceId } from '../twins/device-twins.ts'
import type { DeviceId } from '../twins/device-twins.ts'
import { httpLimits } from './limits.ts'
import { countingRefusals, outboxRefusal, refusal, storeRefusal } from './problems.ts'
import { readBody } from './request-body.ts'

export interface DeviceReportComponents {
  readonly reports: DeviceReports
  readonly clock: Clock
  /** Requests refused, by code. */
  readonly refused: Map<string, number>
  /** Told of acknowledgements: how long their commit took, milliseconds. */
  readonly onAck?: (latencyMs: number) => void
}

/**
 * `POST /v1/devices/{ns}/{name}/report`: a device of protocol `http` calls with what it says, in its own words; its visitors
 * read them (docs/spec/mappers.md). 200 with `{"properties":[…],"problems":[…]}`: those that were found in it and are durable
 * (L1), and what was not taken, with the reason. Refusals are problem documents with a `code`: 404, 413, 415, 503 with Retry-After.
 */
export function deviceReportRoute(options: { readonly bodyBytesMax: number }, components: DeviceReportComponents): HttpRoute {
  const { reports, clock, refused, onAck } = components
  return countingRefusals({
    method: 'POST',
    path: '/v1/devices/{namespace}/{name}/report',
    async handle(request): Promise<HttpReply> {
      const id = deviceOf(request)
      const body = await readBody(request, options.bodyBytesMax, { code: 'BODY_TOO_LARGE', bytesMax: httpLimits.twinBodyBytes.value })
      const startMs = clock.monotonicMs()
      let report: DeviceReport | undefined
      try {
        report = reports.take(id, body)
      } catch (error) {
        throw outboxRefusal(error)
      }
      if (report === undefined) throw unknown(id)
      const { commit, properties, problems } = report
      if (commit !== undefined) {
        await new Promise<void>((resolve, reject) => {
          commit.onDurable(error => { if (error === undefined) resolve(); else reject(storeRefusal(error)) })
        })
      }
      onAck?.(clock.monotonicMs() - startMs)
      return jsonReply({ properties, problems })
    }
  }, refused)
}

function deviceOf({ params: { namespace = '', name = '' } }: HttpRequest): DeviceId {
  const id = parseDeviceId(`${namespace}/${name}`)
  if (id === undefined) throw unknown(`${namespace}/${name}`)
  return id
}

function unknown(id: string): HttpProblem {
  return refusal(404, 'TWIN_DEVICE_UNKNOWN',
    `no device ${id} of protocol http with a property whose visitors have webhook: true is on this node`)
}
