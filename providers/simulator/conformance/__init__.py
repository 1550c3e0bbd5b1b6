"""What an endpoint really does, asked as a client: any base URL, any protocol we speak."""
