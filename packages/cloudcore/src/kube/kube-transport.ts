export interface TransportRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** From the API's root on, with the query. */
  readonly path: string
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

export interface TransportAnswer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** Throws where the answer breaks off. */
  readonly body: AsyncIterable<Buffer>
}

/** How requests get to a Kubernetes API, with the credentials that it takes. */
export interface KubeTransport {
  /** Where the API is, for messages; without a slash at its end. */
  readonly server: string
  /**
   * Resolves with the beginning of the answer; rejects with what is in the way of that, or with the signal's reason. That aborts
   * when nobody wants the rest of the body.
   */
  request(request: TransportRequest, signal: AbortSignal): Promise<TransportAnswer>
  /** Cuts what is under way. */
  close(): Promise<void>
}
